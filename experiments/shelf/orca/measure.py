"""Does iteration-level batching serve more than batches that run to completion?

Yu et al., Orca (OSDI 2022), figure 10: 36.9 times FasterTransformer's throughput for GPT-3 175B at the same
latency. Here all requests are there at once, so that only batching makes a difference. Memory is ample: how
much of it a request reserves is another study's question.
"""

import sys

from experiments.shelf.lab import (
    CALIBRATED,
    STATED,
    Load,
    Outcome,
    Panel,
    Study,
    everything_at_once,
    kv_tokens,
    machine,
    ratio,
)

PAPER = "Orca (OSDI 2022): 36.9x the throughput of FasterTransformer at equal latency, GPT-3 175B"
DIFFERENCES = (
    "Throughput with all requests there, not at equal latency; a batch of 16. On a CPU reading prompts "
    "takes most of the time, which batching does not shorten, so at most that much can be had there"
)
BATCH = 16
COMMON = (f"engine.max_sequences={BATCH}", "engine.max_step_tokens=8192", kv_tokens(2**20))
DECLARED = "workload.output_cap=1024"
ALIKE = (
    *(
        "workload=synthetic",
        "workload.prompt_mean=1024",
        "workload.prompt_sigma=0",
        "workload.prompt_cap=1024",
    ),
    *("workload.output_mean=256", "workload.output_sigma=0", "workload.output_cap=256"),
)


def measure(outcome: Outcome) -> dict[str, float]:
    return {key: outcome.metrics[key] for key in ("output_tokens_per_s", "steps")}


def main() -> int:
    study = Study(__file__, "Orca's iteration-level batching against static batches", requests=240)
    azure = everything_at_once(study.load("azure_conv"), study.seeds)
    for name, path, least in (("accelerator", STATED, 1.3), ("two CPU cores", CALIBRATED, 1.1)):
        arms = {each: (*COMMON, f"scheduler={each}", machine(path), DECLARED) for each in ("static", "orca")}
        taken = study.run(name, arms, azure, measure)
        gain = ratio(taken["orca"]["output_tokens_per_s"], taken["static"]["output_tokens_per_s"])
        study.claim(f"throughput, orca / static, {name}", gain, at_least=least)
        values = {arm: taken[arm]["output_tokens_per_s"] for arm in arms}
        study.show(Panel(label=f"output tokens/s, {name}", values=values))
    alike = {each: (*COMMON, f"scheduler={each}", machine(STATED)) for each in ("static", "orca")}
    same = study.run("control", alike, Load(requests=BATCH * 15, overrides=ALIKE), measure)
    even = ratio(same["orca"]["output_tokens_per_s"], same["static"]["output_tokens_per_s"])
    study.claim("throughput, all lengths alike", even, at_least=0.95, at_most=1.05, control=True)
    return study.finish()


if __name__ == "__main__":
    sys.exit(main())
