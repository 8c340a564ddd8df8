"""How near does a queue that learns from the past alone come to one that knows?

Wu et al., FastServe (NSDI 2026): up to 6.1 times the throughput of vLLM at the same latency, from preempting
at the token and keeping what was computed in host memory. Few sequences run at once here, so that going first
means that another gives way. What a preemption costs is next to nothing where its KV stays in the prefix
cache, a copy to host memory and back where it is swapped, and all of it where it is computed again. Outputs
are heavy-tailed, as the paper's first evaluation draws them.
"""

import sys

from experiments.shelf.lab import (
    STATED,
    Load,
    Outcome,
    Panel,
    Study,
    copying,
    host_tokens,
    kv_tokens,
    machine,
    ratio,
)

PAPER = "FastServe (NSDI 2026): up to 6.1x the throughput of vLLM at equal latency"
DIFFERENCES = (
    "Latency at 90% of fcfs's capacity is measured, not capacity under a bound. Copies to and from host "
    "memory are made before a step and delay everybody in it, where FastServe hides them behind computing: "
    "the time so lost takes back more than going first had brought to mean completion. The latency a "
    "token, the paper's measure, in which short requests count as much as long ones, stays below fcfs's"
)
MEMORY = 2**20
COMMON = (
    *("engine.max_sequences=8", "engine.max_step_tokens=2048", "engine.block_size=16"),
    *("workload.output_cap=4096", kv_tokens(MEMORY), machine(STATED), "allocator=paged"),
)
HEAVY_TAILED = (
    *("workload=synthetic", "workload.prompt_mean=300", "workload.prompt_cap=1500"),
    *("workload.output_mean=150", "workload.output_sigma=1.6"),
)
LOST = "allocator.prefix_cache=false"
PRICES = {
    "swapped": (LOST, "engine.preemption=swap", host_tokens(MEMORY), copying(25e9)),
    "computed again": (LOST,),
}
"""What else may become of the KV of those that give way; the bus is a PCIe 4.0 of 16 lanes."""
ARMS = {
    "fcfs": ("scheduler=fcfs",),
    "mlfq": ("scheduler=mlfq", "scheduler.quantum=0.5", "scheduler.promote_after=60"),
    "srpt, oracle": ("scheduler=srpt", "predictor=oracle"),
}


def measure(outcome: Outcome) -> dict[str, float]:
    totals = outcome.metrics
    return {
        "mean_s": outcome.steady["e2e_s"]["mean"],
        "normalized_s": outcome.steady["normalized_latency_s"]["mean"],
        **{key: totals[key] for key in ("preemptions", "swaps", "swap_fallbacks", "recomputed_tokens")},
    }


def main() -> int:
    study = Study(__file__, "Skip-join feedback queue between first come and the oracle", requests=240)
    arms = {name: (*COMMON, *overrides) for name, overrides in ARMS.items()}
    heavy = Load(requests=study.requests, overrides=HEAVY_TAILED)
    load = study.at_load(0.9, arms["fcfs"], heavy)
    kept = study.run("preempted KV is kept", arms, load, measure)
    priced = {f"mlfq, {price}": (*arms["mlfq"], *memory) for price, memory in PRICES.items()}
    paid = study.run("preempted KV has a price", priced, load, measure)
    mean = {arm: numbers["mean_s"] for arm, numbers in (*kept.items(), *paid.items())}
    study.claim("mean completion, mlfq / fcfs", ratio(mean["mlfq"], mean["fcfs"]), at_most=0.95)
    study.claim("mean completion, mlfq / oracle", ratio(mean["mlfq"], mean["srpt, oracle"]), at_least=1)
    for price in PRICES:  # fcfs preempts nobody, so it pays none, and what mlfq gains on it shrinks
        dearer = ratio(mean[f"mlfq, {price}"], mean["mlfq"])
        study.claim(f"mean completion, mlfq where preempted KV is {price} / kept", dearer, at_least=1.02)
    a_token = ratio(paid["mlfq, swapped"]["normalized_s"], kept["fcfs"]["normalized_s"])
    study.claim("mean latency a token, mlfq swapped / fcfs", a_token, at_most=0.8)
    few = Load(requests=study.requests // 4, overrides=HEAVY_TAILED)
    pair = {name: arms[name] for name in ("fcfs", "mlfq")}
    idle = study.run("5% load", pair, study.at_load(0.05, arms["fcfs"], few), measure)
    calm = ratio(idle["mlfq"]["mean_s"], idle["fcfs"]["mean_s"])
    study.claim("mean completion at 5% load, mlfq / fcfs", calm, at_least=0.98, at_most=1.02, control=True)
    study.show(Panel(label="mean completion (s)", values=mean))
    both = kept | paid
    for key, label in (("normalized_s", "mean latency a token (s)"), ("preemptions", "preemptions")):
        study.show(Panel(label=label, values={arm: both[arm][key] for arm in both}))
    return study.finish()


if __name__ == "__main__":
    sys.exit(main())
