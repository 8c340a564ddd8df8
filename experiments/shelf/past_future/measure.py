"""Does a forecast of memory keep sequences from being preempted?

Gong et al., Past-Future (ASPLOS 2025): 2 to 3 times the goodput under heavy load, as admission that looks
only at memory as it is evicts sequences again and again where outputs are long. Lengths come from the
outputs that ended before (`predictor=history`), as in the paper.
"""

import sys

from experiments.shelf.lab import STATED, Load, Outcome, Panel, Study, kv_tokens, machine, ratio

PAPER = "Past-Future (ASPLOS 2025): 2 to 3x the goodput under heavy load"
DIFFERENCES = (
    "Preemptions and throughput are measured, not goodput under latency targets, with all requests "
    "there at once. Throughput is the same, as computing again is cheap on the stated accelerator. The "
    "forecast needs outputs that have ended: runs of a hundred requests are too short for it"
)
COMMON = (
    "engine.max_sequences=128",
    "engine.max_step_tokens=2048",
    "engine.block_size=16",
    kv_tokens(24_000),
    machine(STATED),
)
ARMS = {
    "fcfs": (*COMMON, "scheduler=fcfs"),
    "watermark": (*COMMON, "scheduler=prefill_first", "scheduler.watermark=0.05"),
    "past_future": (*COMMON, "scheduler=past_future", "predictor=history"),
}
DECODES = (
    *("workload=synthetic", "workload.prompt_mean=100", "workload.prompt_cap=400"),
    *("workload.output_mean=500", "workload.output_sigma=0.7", "workload.output_cap=2000"),
)
PREFILLS = (
    *("workload=synthetic", "workload.prompt_mean=2000", "workload.prompt_cap=8000"),
    *("workload.output_mean=16", "workload.output_sigma=0.5", "workload.output_cap=40"),
)


def measure(outcome: Outcome) -> dict[str, float]:
    totals = outcome.metrics
    return {key: totals[key] for key in ("preemptions", "recomputed_tokens", "output_tokens_per_s")}


def main() -> int:
    study = Study(__file__, "Admission by the memory to come", requests=360)
    long_outputs = study.run("long outputs", ARMS, Load(requests=study.requests, overrides=DECODES), measure)
    long_prompts = study.run("long prompts", ARMS, Load(requests=study.requests, overrides=PREFILLS), measure)
    after = long_outputs["past_future"]
    for arm in ("fcfs", "watermark"):
        before = long_outputs[arm]
        fewer = ratio(after["preemptions"], before["preemptions"])
        study.claim(f"preemptions, past_future / {arm}", fewer, at_most=0.5)
        speed = ratio(after["output_tokens_per_s"], before["output_tokens_per_s"])
        study.claim(f"throughput, past_future / {arm}", speed, at_least=0.95)
    for arm in ("watermark", "past_future"):
        share = [each / study.requests for each in long_prompts[arm]["preemptions"]]
        study.claim(f"preemptions a request, long prompts, {arm}", share, at_most=0.01, control=True)
    for group, taken in (("long outputs", long_outputs), ("long prompts", long_prompts)):
        study.show(
            Panel(label=f"preemptions, {group}", values={arm: taken[arm]["preemptions"] for arm in ARMS})
        )
    speeds = {arm: long_outputs[arm]["output_tokens_per_s"] for arm in ARMS}
    study.show(Panel(label="output tokens/s, long outputs", values=speeds))
    return study.finish()


if __name__ == "__main__":
    sys.exit(main())
