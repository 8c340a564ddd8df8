"""Do chunked prefills keep decodes from stalling, at what price?

Agrawal et al., Sarathi-Serve (OSDI 2024): 2.6 times the capacity of vLLM (Mistral-7B) under a bound on the
99th percentile of the time between tokens. Here the load is fixed at 80% of capacity instead, and that
percentile is measured. The price is that a prompt shares its steps, so that the first token comes later.
"""

import sys

from experiments.shelf.lab import CALIBRATED, Outcome, Panel, Study, kv_tokens, machine, ratio

PAPER = (
    "Sarathi-Serve (OSDI 2024): 2.6x the capacity of vLLM under a bound on p99 time between tokens, "
    "Mistral-7B"
)
DIFFERENCES = (
    "Load is fixed and the percentile measured, instead of the other way round; chunks of 256 tokens"
)
COMMON = (
    *("engine.max_sequences=32", "engine.max_step_tokens=8192", "workload.output_cap=1024"),
    *(kv_tokens(2**20), machine(CALIBRATED)),
)
ARMS = {
    "prefill_first": (*COMMON, "scheduler=prefill_first"),
    "sarathi": (*COMMON, "scheduler=sarathi", "scheduler.chunk_tokens=256"),
}


def measure(outcome: Outcome) -> dict[str, float]:
    steady = outcome.steady
    return {
        "itl_p99_s": steady["itl_s"]["p99"],
        "ttft_p50_s": steady["ttft_s"]["p50"],
        "output_tokens_per_s": outcome.metrics["output_tokens_per_s"],
    }


def main() -> int:
    study = Study(__file__, "Sarathi's chunked prefills against prefill first, at 80% load", requests=240)
    load = study.load("azure_conv")
    taken = study.run("80%", ARMS, study.at_load(0.8, ARMS["prefill_first"], load), measure)
    first, chunked = taken["prefill_first"], taken["sarathi"]
    study.claim(
        "p99 ITL, prefill_first / sarathi", ratio(first["itl_p99_s"], chunked["itl_p99_s"]), at_least=3
    )
    study.claim(
        "p50 TTFT, sarathi / prefill_first", ratio(chunked["ttft_p50_s"], first["ttft_p50_s"]), at_least=1
    )
    speed = ratio(chunked["output_tokens_per_s"], first["output_tokens_per_s"])
    study.claim("throughput, sarathi / prefill_first", speed, at_least=0.95, at_most=1.05)
    few = study.load("azure_conv", requests=study.requests // 4)
    idle = study.run("2%", ARMS, study.at_load(0.02, ARMS["prefill_first"], few), measure)
    calm = ratio(idle["prefill_first"]["itl_p99_s"], idle["sarathi"]["itl_p99_s"])
    study.claim("p99 ITL at 2% load", calm, at_least=0.95, at_most=1.05, control=True)
    for key, label in (("itl_p99_s", "p99 ITL (s)"), ("ttft_p50_s", "p50 TTFT (s)")):
        study.show(Panel(label=f"{label}, 80% load", values={arm: taken[arm][key] for arm in ARMS}))
    study.show(Panel(label="p99 ITL (s), 2% load", values={arm: idle[arm]["itl_p99_s"] for arm in ARMS}))
    return study.finish()


if __name__ == "__main__":
    sys.exit(main())
