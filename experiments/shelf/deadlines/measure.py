"""Who looks at deadlines misses fewer of them, where there is more work than time?

Goel et al., Niyama (ASPLOS 2026): 32% more capacity and a tenth of the violations under overload, by serving
tiers together and putting off who is late anyway. Here requests of a trace get one of three tiers at random;
their deadline is for the last token.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace

from experiments.shelf.lab import CALIBRATED, Outcome, Panel, Study, difference, kv_tokens, machine, ratio

from quire.engine.request import Request
from quire.rng import derive_seed, uniform

PAPER = "Niyama (ASPLOS 2026): 32% more capacity, a tenth of the violations"
DIFFERENCES = (
    "Deadlines are for the last token, in three tiers drawn at random for requests of a trace; two CPU cores"
)
COMMON = (
    *("engine.max_sequences=32", "engine.max_step_tokens=1024", "workload.output_cap=1024"),
    *(kv_tokens(2**20), machine(CALIBRATED)),
)
ARMS = {
    "fcfs": (*COMMON, "scheduler=fcfs"),
    "edf": (*COMMON, "scheduler=edf"),
    "niyama": (*COMMON, "scheduler=niyama", "predictor=history"),
}
TIERS = (40.0, 150.0, 600.0)
"""Seconds from the arrival; each as likely as the others."""


def with_deadlines(requests: Iterable[Request], seed: int) -> Iterator[Request]:
    for request in requests:
        tier = TIERS[int(len(TIERS) * uniform(derive_seed(seed, "tier", request.id), 0))]
        yield replace(request, deadline=(request.arrival_time or 0.0) + tier)


def measure(outcome: Outcome) -> dict[str, float]:
    late = 0
    for record in outcome.records:
        deadline = outcome.requests[record.request_id].deadline
        assert deadline is not None
        assert record.finish is not None
        late += record.finish > deadline
    return {"late": late / len(outcome.records), "requests_per_s": outcome.metrics["requests_per_s"]}


def main() -> int:
    study = Study(__file__, "Deadlines at 0.6 and 1.2 of capacity", requests=240)
    azure = study.load("azure_conv")
    for load in (0.6, 1.2):
        loaded = study.at_load(load, ARMS["fcfs"], azure)
        taken = study.run(f"{load:g} of capacity", ARMS, loaded, measure, dress=with_deadlines)
        late = {arm: taken[arm]["late"] for arm in ARMS}
        study.show(Panel(label=f"share of requests late, {load:g} of capacity", values=late))
        for arm in ("edf", "niyama"):
            if load > 1:
                study.claim(
                    f"requests late at {load:g}, {arm} / fcfs", ratio(late[arm], late["fcfs"]), at_most=0.5
                )
            else:
                more = difference(late[arm], late["fcfs"])
                what = f"share of requests late at {load:g}, {arm} - fcfs"
                study.claim(what, more, at_least=-0.01, at_most=0.01, control=True)
    return study.finish()


if __name__ == "__main__":
    sys.exit(main())
