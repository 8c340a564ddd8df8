"""Does a tenant that asks for much take from one that asks for little?

Sheng et al., VTC (OSDI 2024): the service of two backlogged tenants differs by at most 2 max(w_p L, w_q M),
and a light tenant's latency does not feel a heavy one. Cao et al., DLPM (2025): 2.87 times VTC's throughput,
as it takes requests with cached prefixes first within a tenant's quantum. Two tenants as in the papers: a
heavy one that asks for more than the engine can do, a light one that asks for less than its half.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from statistics import fmean

from experiments.shelf.lab import STATED, Load, Outcome, Panel, Study, kv_tokens, machine, ratio

from quire.engine.request import Request
from quire.rng import derive_seed, uniform

PAPER = (
    "VTC (OSDI 2024): service of two backlogged tenants within a proven bound; DLPM (2025): 2.87x VTC's "
    "throughput"
)
DIFFERENCES = (
    "Prefixes of 512 tokens are two thirds of a prompt but prompts are cheap beside decoding here, so "
    "hits bring less throughput than in DLPM's workloads of long contexts"
)
INPUT_WEIGHT, OUTPUT_WEIGHT = 1.0, 2.0
LONGEST_PROMPT, MEMORY = 1536, 16_000
BOUND = 2 * max(INPUT_WEIGHT * LONGEST_PROMPT, OUTPUT_WEIGHT * MEMORY)
"""VTC's theorem 4.4, in weighted tokens."""
COMMON = ("engine.max_sequences=64", "engine.max_step_tokens=2048", kv_tokens(MEMORY), machine(STATED))
ARMS = {each: (*COMMON, f"scheduler={each}") for each in ("fcfs", "vtc", "dlpm")}
REQUESTS = (
    *("workload=synthetic", "workload.prompt_mean=768", "workload.prompt_sigma=0.3"),
    *(f"workload.prompt_cap={LONGEST_PROMPT}", "workload.output_mean=128", "workload.output_cap=512"),
    *("workload.shared_prefix=512", "workload.prefixes=48", "workload.popularity=0.6"),
)


def with_tenants(requests: Iterable[Request], seed: int, *, heavy: float) -> Iterator[Request]:
    """That share of the requests, drawn at random, are the heavy tenant's."""
    for request in requests:
        draw = uniform(derive_seed(seed, "tenant", request.id), 0)
        yield replace(request, tenant="heavy" if draw < heavy else "light")


def measure(outcome: Outcome) -> dict[str, float]:
    light = [record for record in outcome.records if record.tenant == "light"]
    return {
        "light_ttft_s": fmean(record.token_times[0] - record.arrival for record in light),
        "requests_per_s": outcome.metrics["requests_per_s"],
        "hit_rate": outcome.metrics["prefix_hit_rate"],
    }


def measure_gap(outcome: Outcome) -> dict[str, float]:
    """The largest difference, over all spans of time while both tenants wait, of the service they got. All
    requests are there at once, so both wait until one of them has none left to start.
    """
    events: list[tuple[float, float]] = []
    last_starts: dict[str, float] = {}
    for record in outcome.records:
        sign = 1.0 if record.tenant == "light" else -1.0
        start = record.first_scheduled
        assert start is not None
        last_starts[record.tenant] = max(start, last_starts.get(record.tenant, 0.0))
        events.append((start, sign * INPUT_WEIGHT * record.num_prompt_tokens))
        events += [(time, sign * OUTPUT_WEIGHT) for time in record.token_times]
    until = min(last_starts.values())
    gap = least = most = 0.0
    for time, service in sorted(events):
        if time > until:
            break
        gap += service
        least, most = min(least, gap), max(most, gap)
    return {"service_gap": most - least}


def main() -> int:
    study = Study(__file__, "A light and a heavy tenant", requests=240)
    load = Load(requests=study.requests, overrides=REQUESTS)
    most_heavy, even = partial(with_tenants, heavy=0.75), partial(with_tenants, heavy=0.5)
    gaps = study.run("both wait", ARMS, load, measure_gap, dress=most_heavy)
    gap = {arm: gaps[arm]["service_gap"] for arm in ARMS}
    study.claim("service gap, vtc (weighted tokens)", gap["vtc"], at_most=BOUND)
    study.claim("service gap, fcfs / vtc", ratio(gap["fcfs"], gap["vtc"]), at_least=2)
    study.claim("service gap, fcfs / dlpm", ratio(gap["fcfs"], gap["dlpm"]), at_least=2)
    crowded = study.at_load(1.3, ARMS["fcfs"], load)
    taken = study.run("overload", ARMS, crowded, measure, dress=most_heavy)
    for arm in ("vtc", "dlpm"):
        calm = ratio(taken["fcfs"]["light_ttft_s"], taken[arm]["light_ttft_s"])
        study.claim(f"light tenant's mean TTFT, fcfs / {arm}", calm, at_least=3)
    hits = ratio(taken["dlpm"]["hit_rate"], taken["vtc"]["hit_rate"])
    study.claim("prefix hits, dlpm / vtc", hits, at_least=1.1)
    speed = ratio(taken["dlpm"]["requests_per_s"], taken["vtc"]["requests_per_s"])
    study.claim("throughput, dlpm / vtc", speed, at_least=1)
    idle = study.run("30% load", ARMS, study.at_load(0.3, ARMS["fcfs"], load), measure, dress=even)
    for arm in ("vtc", "dlpm"):
        same = ratio(idle[arm]["light_ttft_s"], idle["fcfs"]["light_ttft_s"])
        what = f"light tenant's mean TTFT at 30% load, {arm} / fcfs"
        study.claim(what, same, at_least=0.95, at_most=1.05, control=True)
    study.show(Panel(label="largest service gap (weighted tokens)", values=gap))
    for key, label in (("light_ttft_s", "light tenant's mean TTFT (s)"), ("hit_rate", "prefix hit rate")):
        study.show(Panel(label=f"{label}, overload", values={arm: taken[arm][key] for arm in ARMS}))
    return study.finish()


if __name__ == "__main__":
    sys.exit(main())
