"""A sample's latencies: differences of times in its record, in seconds on the engine's clock.

    arrival          first_scheduled      token 0    token 1         token 2 = last      finish
       |---- queue ----|                     |          |                |                 |
       |--------------- ttft ----------------|-- itl ---|----- itl ------|                 |
       |                                     |-- tpot = mean over these -|                 |
       |------------------------------------- e2e -----------------------------------------|

Each gives one value, many (`itl`), or none where a sample has no such latency: a single token has no gaps.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from quire.config.slo import SloConfig
from quire.engine.records import RequestRecord


def queue(record: RequestRecord) -> Iterable[float]:
    """From arrival to the first step that takes the sample in."""
    if record.first_scheduled is not None:
        yield record.first_scheduled - record.arrival


def ttft(record: RequestRecord) -> Iterable[float]:
    """From arrival to the first token."""
    if record.token_times:
        yield record.token_times[0] - record.arrival


def tpot(record: RequestRecord) -> Iterable[float]:
    """The mean gap between tokens."""
    times = record.token_times
    if len(times) > 1:
        yield (times[-1] - times[0]) / (len(times) - 1)


def itl(record: RequestRecord) -> Iterable[float]:
    """The gaps between tokens."""
    return (later - earlier for earlier, later in pairwise(record.token_times))


def itl_max(record: RequestRecord) -> Iterable[float]:
    """The longest of them."""
    if len(record.token_times) > 1:
        yield max(itl(record))


def e2e(record: RequestRecord) -> Iterable[float]:
    """From arrival to the end."""
    if record.finish is not None:
        yield record.finish - record.arrival


def normalized(record: RequestRecord) -> Iterable[float]:
    """The same for each output token."""
    if record.finish is not None and record.token_times:
        yield (record.finish - record.arrival) / record.num_output_tokens


def keeps(slo: SloConfig, record: RequestRecord) -> bool:
    """Whether a completed sample keeps the objectives for requests. One that has no such latency keeps the
    objective.
    """
    bounded = {"ttft": ttft, "tpot": tpot, "itl": itl_max, "e2e": e2e}
    return all(value <= bound for name, bound in slo.for_requests.items() for value in bounded[name](record))
