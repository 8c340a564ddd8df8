"""Does it pay to look at the cost, or at the queue, before a cached block is given up?

Wang et al., KVCache in the Wild (ATC 2025): hits 8 to 24% above LRU with eviction that knows the workload.
Here memory holds a small part of Mooncake's prefixes, and there is more work than time, so that a queue is
there to be looked at.
"""

from experiments.shelf.lab import STATED, Outcome, Panel, Study, difference, kv_tokens, machine

TIGHT, AMPLE = kv_tokens(1_000_000), kv_tokens(2**26)
COMMON = (
    *("scheduler=fcfs", "engine.max_sequences=64", "engine.max_step_tokens=8192", "workload.output_cap=32"),
    machine(STATED),
)
POLICIES = ("lru", "cost_aware", "queue_aware")


def measure(outcome: Outcome) -> dict[str, float]:
    return {
        "hit_rate": outcome.metrics["prefix_hit_rate"],
        "mean_ttft_s": outcome.steady["ttft_s"]["mean"],
        "evictions": outcome.kv.evictions,
    }


def main() -> None:
    study = Study(__file__, "Eviction by cost and by the queue against LRU", requests=1500)
    arms = {each: (*COMMON, TIGHT, f"eviction={each}") for each in POLICIES}
    load = study.at_load(1.1, arms["lru"], study.load("mooncake"))
    taken = study.run("110% load", arms, load, measure)
    ample = {each: (*COMMON, AMPLE, f"eviction={each}") for each in POLICIES}
    all_kept = study.run("ample memory", ample, load, measure)
    for policy in POLICIES[1:]:
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
    study.exit()


if __name__ == "__main__":
    main()
