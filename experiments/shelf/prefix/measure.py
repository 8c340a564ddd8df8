"""Does the prefix cache find what a plain LRU finds, and does serving the longest prefix first help?

Qin et al., Mooncake (FAST 2025), whose trace it is; Zheng et al., SGLang (NeurIPS 2024): up to 6.4 times the
throughput, at 96% of the best possible hit rate. The plain LRU is a dictionary over the same prompts in order
of arrival, and knows nothing of steps, outputs or memory in use.
"""

import sys

from experiments.shelf.lab import (
    BLOCK_TOKENS,
    STATED,
    Outcome,
    Panel,
    Study,
    difference,
    kv_tokens,
    machine,
    ratio,
)
from experiments.shelf.lab.lru import replay

PAPER = (
    "SGLang (NeurIPS 2024): up to 6.4x the throughput, 96% of the best possible hit rate; Mooncake (FAST "
    "2025), whose trace it is"
)
DIFFERENCES = (
    "Stretches of 500 requests share less than the whole trace, and 2M tokens of memory keep a part; "
    "outputs are cut at 64 tokens"
)
MEMORY = 2_000_000
COMMON = (
    *("engine.max_sequences=16", "engine.max_step_tokens=8192", "workload.output_cap=64"),
    machine(STATED),
)
ARMS = {
    "no cache": (*COMMON, kv_tokens(MEMORY), "scheduler=lpm", "allocator.prefix_cache=false"),
    "fcfs": (*COMMON, kv_tokens(MEMORY), "scheduler=fcfs"),
    "lpm": (*COMMON, kv_tokens(MEMORY), "scheduler=lpm"),
}


def measure(outcome: Outcome) -> dict[str, float]:
    prompts = (
        (record.num_prompt_tokens, outcome.prompt_blocks[record.request_id]) for record in outcome.records
    )
    return {
        "hit_rate": outcome.metrics["prefix_hit_rate"],
        "lru_hit_rate": replay(prompts, block_tokens=BLOCK_TOKENS, capacity=MEMORY // BLOCK_TOKENS),
        "mean_ttft_s": outcome.steady["ttft_s"]["mean"],
    }


def main() -> int:
    study = Study(__file__, "Prefix cache and longest prefix first on Mooncake's trace", requests=500)
    load = study.at_load(0.9, ARMS["fcfs"], study.load("mooncake"))
    taken = study.run("90% load", ARMS, load, measure)
    hits = {arm: taken[arm]["hit_rate"] for arm in ARMS}
    plain = taken["fcfs"]["lru_hit_rate"]
    study.claim("hit rate, fcfs - plain LRU", difference(hits["fcfs"], plain), at_least=-0.01, at_most=0.01)
    study.claim("hit rate, lpm - fcfs", difference(hits["lpm"], hits["fcfs"]), at_least=0)
    faster = ratio(taken["no cache"]["mean_ttft_s"], taken["lpm"]["mean_ttft_s"])
    study.claim("mean TTFT, without cache / lpm", faster, at_least=1.1)
    study.claim("hit rate without cache", hits["no cache"], at_least=0, at_most=0, control=True)
    study.show(Panel(label="prompt tokens found in the cache", values={**hits, "plain LRU": plain}))
    study.show(Panel(label="mean TTFT (s)", values={arm: taken[arm]["mean_ttft_s"] for arm in ARMS}))
    return study.finish()


if __name__ == "__main__":
    sys.exit(main())
