"""How near does a queue that learns from the past alone come to one that knows?

Wu et al., FastServe (NSDI 2026): up to 6.1 times the throughput of vLLM at the same latency, from preempting
at the token and keeping what was computed in host memory. Few sequences run at once here, so that going first
means that another gives way. What a preemption costs is next to nothing where its KV stays in the prefix
cache, and all of it where it is computed again. Outputs are heavy-tailed, as the paper's first evaluation
draws them; on Azure's, whose coefficient of variation is below 1, sharing time only delays all.
"""

from experiments.shelf.lab import STATED, Load, Outcome, Panel, Study, difference, kv_tokens, machine, ratio

COMMON = (
    *("engine.max_sequences=8", "engine.max_step_tokens=2048", "engine.block_size=16"),
    *("workload.output_cap=4096", kv_tokens(2**20), machine(STATED)),
)
HEAVY_TAILED = (
    *("workload=synthetic", "workload.prompt_mean=300", "workload.prompt_cap=1500"),
    *("workload.output_mean=150", "workload.output_sigma=1.6"),
)
FREE = ("allocator=paged",)
"""What a preempted sequence held stays in the prefix cache."""
CHARGED = ("allocator=paged", "allocator.prefix_cache=false")
"""It is lost, and computed again."""
ARMS = {
    "fcfs": ("scheduler=fcfs",),
    "mlfq": ("scheduler=mlfq", "scheduler.quantum=0.5", "scheduler.promote_after=60"),
    "srpt, oracle": ("scheduler=srpt", "predictor=oracle"),
}


def measure(outcome: Outcome) -> dict[str, float]:
    return {
        "mean_s": outcome.steady["e2e_s"]["mean"],
        "normalized_s": outcome.steady["normalized_latency_s"]["mean"],
        "preemptions": outcome.metrics["preemptions"],
        "recomputed_tokens": outcome.metrics["recomputed_tokens"],
    }


def main() -> None:
    study = Study(__file__, "Skip-join feedback queue between first come and the oracle", requests=240)
    fcfs = (*COMMON, *FREE, *ARMS["fcfs"])
    heavy = Load(requests=study.requests, overrides=HEAVY_TAILED)
    load = study.at_load(0.9, fcfs, heavy)
    taken = {}
    for price, memory in (("kept", FREE), ("computed again", CHARGED)):
        arms = {name: (*COMMON, *memory, *overrides) for name, overrides in ARMS.items()}
        taken[price] = study.run(f"preempted KV is {price}", arms, load, measure)
    free, charged = taken["kept"], taken["computed again"]
    mean = {arm: free[arm]["mean_s"] for arm in ARMS}
    study.claim("mean completion, mlfq / fcfs", ratio(mean["mlfq"], mean["fcfs"]), at_most=0.95)
    study.claim("mean completion, mlfq / oracle", ratio(mean["mlfq"], mean["srpt, oracle"]), at_least=1)
    gain = difference(mean["fcfs"], mean["mlfq"])
    paid = difference(charged["fcfs"]["mean_s"], charged["mlfq"]["mean_s"])
    study.claim("gain with preemption charged / free", ratio(paid, gain), at_most=0.95)
    few = Load(requests=study.requests // 4, overrides=HEAVY_TAILED)
    idle_load = study.at_load(0.05, fcfs, few)
    arms = {name: (*COMMON, *FREE, *overrides) for name, overrides in ARMS.items()}
    idle = study.run("5% load", arms, idle_load, measure)
    calm = ratio(idle["mlfq"]["mean_s"], idle["fcfs"]["mean_s"])
    study.claim("mean completion at 5% load, mlfq / fcfs", calm, at_least=0.98, at_most=1.02, control=True)
    even = study.run("outputs of Azure", arms, study.at_load(0.9, fcfs, study.load("azure_conv")), measure)
    for price, numbers in taken.items():
        values = {arm: numbers[arm]["mean_s"] for arm in ARMS}
        study.show(Panel(label=f"mean completion (s), KV {price}", values=values))
    values = {arm: even[arm]["mean_s"] for arm in ARMS}
    study.show(Panel(label="mean completion (s), Azure's outputs, KV kept", values=values))
    study.exit()


if __name__ == "__main__":
    main()
