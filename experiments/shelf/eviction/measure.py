"""Does it pay to look at the cost, or at the queue, before a cached block is given up?

Wang et al., KVCache in the Wild (ATC 2025): hits 8 to 24% above LRU with eviction that knows the workload.
Here memory holds a small part of Mooncake's prefixes, and there is more work than time, so that a queue is
there to be looked at.
"""

import sys

from experiments.shelf.lab import STATED, Outcome, Panel, Study, difference, kv_tokens, machine

PAPER = "KVCache in the Wild (ATC 2025): hits 8 to 24% above LRU"
DIFFERENCES = (
    "Stretches of 500 requests share less than the whole trace; memory holds 1M tokens, outputs are cut at "
    "32. queue_aware, which sees who waits, gains. cost_aware does not, over or under lru by the seed: "
    "most blocks were used once, so that their depth decides, and dear ones are no likelier to be needed"
)
TIGHT, AMPLE = kv_tokens(1_000_000), kv_tokens(2**26)
COMMON = (
    *("scheduler=fcfs", "engine.max_sequences=64", "engine.max_step_tokens=8192", "workload.output_cap=32"),
    machine(STATED),
)
POLICIES = {
    "lru": ("eviction=lru",),
    "cost_aware": ("eviction=cost_aware", "eviction.depth_cost=0.0047"),
    "queue_aware": ("eviction=queue_aware",),
}
"""What each block before it adds to the cost of one is the stated accelerator's: 128 x `prefill_pairs` /
`prefill_tokens`."""


def measure(outcome: Outcome) -> dict[str, float]:
    return {
        "hit_rate": outcome.metrics["prefix_hit_rate"],
        "mean_ttft_s": outcome.steady["ttft_s"]["mean"],
        "evictions": outcome.kv.evictions,
    }


def main() -> int:
    study = Study(__file__, "Eviction by cost and by the queue against LRU", requests=500)
    arms = {each: (*COMMON, TIGHT, *options) for each, options in POLICIES.items()}
    load = study.at_load(1.1, arms["lru"], study.load("mooncake"))
    taken = study.run("110% load", arms, load, measure)
    ample = {each: (*COMMON, AMPLE, *options) for each, options in POLICIES.items()}
    all_kept = study.run("ample memory", ample, load, measure)
    for policy in ("cost_aware", "queue_aware"):
        more = difference(taken[policy]["hit_rate"], taken["lru"]["hit_rate"])
        study.claim(f"hit rate, {policy} - lru", more, at_least=0.002)
        same = difference(all_kept[policy]["hit_rate"], all_kept["lru"]["hit_rate"])
        what = f"hit rate with ample memory, {policy} - lru"
        study.claim(what, same, at_least=0, at_most=0, control=True)
    hits = {each: taken[each]["hit_rate"] for each in POLICIES}
    study.show(Panel(label="prompt tokens found, 110% load", values=hits))
    study.show(Panel(label="mean TTFT (s)", values={each: taken[each]["mean_ttft_s"] for each in POLICIES}))
    kept = {each: all_kept[each]["hit_rate"] for each in POLICIES}
    study.show(Panel(label="prompt tokens found, ample memory", values=kept))
    return study.finish()


if __name__ == "__main__":
    sys.exit(main())
