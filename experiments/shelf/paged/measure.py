"""Does memory on demand serve more than memory reserved for the longest output?

Kwon et al., PagedAttention (SOSP 2023): 2 to 4 times the throughput of FasterTransformer and Orca at the same
latency, as reserved and fragmented memory holds few sequences. Here KV memory holds 24k tokens. Both arms
admit by the forecast of `past_future`; `fcfs` beside them shows what filling memory to the brim costs, where
those who give way are computed again. What is generated must be the same, as the bundled model shows.
"""

import hashlib
import sys

from experiments.shelf.lab import (
    CALIBRATED,
    REAL,
    STATED,
    Load,
    Outcome,
    Panel,
    Study,
    difference,
    everything_at_once,
    kv_tokens,
    machine,
    ratio,
)

PAPER = "PagedAttention (SOSP 2023): 2 to 4x the throughput of FasterTransformer and Orca"
DIFFERENCES = (
    "Both arms admit by `past_future`. With `fcfs`, which fills memory to the brim, paged gains little or"
    " loses: newcomers give way at once and are computed again (third bar)"
)
ALLOCATORS = ("contiguous", "paged")
COMMON = ("engine.max_sequences=64", "engine.max_step_tokens=2048", "engine.block_size=16")
DECLARED = "workload.output_cap=1024"
TOKENS = Load(
    requests=24,
    overrides=(
        *("workload=synthetic", "workload.prompt_mean=60", "workload.output_mean=40"),
        *("workload.prompt_cap=100", "workload.output_cap=100"),
    ),
)


def measure(outcome: Outcome) -> dict[str, float]:
    totals = outcome.metrics
    return {
        "output_tokens_per_s": totals["output_tokens_per_s"],
        "sequences": totals["step_sequences"]["mean"],
        "preemptions": totals["preemptions"],
    }


def measure_tokens(outcome: Outcome) -> dict[str, float]:
    """A digest of all that was generated, as a number that JSON holds exactly."""
    text = repr(sorted((name, list(tokens)) for name, tokens in outcome.token_ids.items()))
    digest = hashlib.blake2b(text.encode(), digest_size=6).digest()
    return {"digest": int.from_bytes(digest, "little"), "preemptions": outcome.metrics["preemptions"]}


def main() -> int:
    study = Study(__file__, "Paged memory against memory reserved for prompt + 1024", requests=240)
    azure = everything_at_once(study.load("azure_conv"), study.seeds)
    for name, path, least in (("accelerator", STATED, 1.3), ("two CPU cores", CALIBRATED, 1.05)):
        for group, memory, control in ((name, 24_000, False), (f"{name}, ample memory", 2**20, True)):
            common = (*COMMON, DECLARED, kv_tokens(memory), machine(path))
            forecast = ("scheduler=past_future", "predictor=history")
            arms = {each: (*common, f"allocator={each}", *forecast) for each in ALLOCATORS}
            if not control:
                arms["paged, fcfs"] = (*common, "allocator=paged", "scheduler=fcfs")
            taken = study.run(group, arms, azure, measure)
            gain = ratio(taken["paged"]["output_tokens_per_s"], taken["contiguous"]["output_tokens_per_s"])
            bounds = {"at_least": 0.98, "at_most": 1.02} if control else {"at_least": least}
            study.claim(f"throughput, paged / contiguous, {group}", gain, control=control, **bounds)
            values = {arm: taken[arm]["output_tokens_per_s"] for arm in arms}
            study.show(Panel(label=f"output tokens/s, {group}", values=values))
    real = {each: ("scheduler=fcfs", f"allocator={each}", "engine.kv_bytes=1MiB") for each in ALLOCATORS}
    spoken = study.run("tokens of the bundled model", real, TOKENS, measure_tokens, base=REAL)
    same = difference(spoken["paged"]["digest"], spoken["contiguous"]["digest"])
    study.claim("digest of the tokens, paged - contiguous", same, at_least=0, at_most=0)
    return study.finish()


if __name__ == "__main__":
    sys.exit(main())
