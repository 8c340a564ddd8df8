"""Which part of a run is compared: warm-up, drain, and whether the queue was growing.

    first arrival     warm-up ends                              last arrival        last end
         |-- warm-up -----|------------- measured ------------------|----- drain -------|

Requests that arrive during warm-up (a fraction of the time between the first arrival and the last) are left
out: they find an engine emptier than the others do. Where all arrive at once there is no warm-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from quire.engine.records import RequestRecord

UNSTABLE_RULE = (
    "unstable: the requests that wait, on average over each third of the measured time, grow from third to "
    "third, in all by more than 4 and by more than 5% of the requests that arrive in it"
)
_GROWTH = 0.05
_LEAST = 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Times are seconds from the run's first event."""

    start: float
    """End of the warm-up."""
    end: float
    """Last arrival."""
    drain_s: float
    """From the last arrival to the last end."""
    waiting: tuple[float, ...]
    """Mean number of waiting requests in each third; empty where all arrive at once."""
    arrivals: int
    """Requests that arrive after the warm-up."""

    @property
    def unstable(self) -> bool:
        """By `UNSTABLE_RULE`: latencies then say how long the run was, and little else."""
        if not self.waiting:
            return False
        first, second, third = self.waiting
        return first < second < third and third - first > max(_LEAST, _GROWTH * self.arrivals)

    def has(self, record: RequestRecord) -> bool:
        """Whether a request is compared."""
        return record.arrival >= self.start


def measured_window(requests: Sequence[RequestRecord], *, warmup: float) -> Window:
    """The window of a run with at least one request; `warmup` is a fraction of the time of arrivals."""
    first = min(each.arrival for each in requests)
    last = max(each.arrival for each in requests)
    ended = max((each.finish for each in requests if each.finish is not None), default=last)
    start = first + warmup * (last - first)
    return Window(
        start=start,
        end=last,
        drain_s=max(0.0, ended - last),
        waiting=_waiting(requests, start, last) if last > start else (),
        arrivals=sum(each.arrival >= start for each in requests),
    )


def _waiting(requests: Sequence[RequestRecord], start: float, end: float) -> tuple[float, ...]:
    spans: list[tuple[float, float]] = []
    for each in requests:
        until = each.finish if each.finish is not None else end
        spans.append((each.arrival, each.first_scheduled if each.first_scheduled is not None else until))
        resumed = [*each.resumed, until]
        spans += zip(each.preempted, resumed, strict=False)
    spans_N2 = np.array(spans)
    edges = np.linspace(start, end, 4)
    means: list[float] = []
    for low, high in pairwise(edges):
        overlap_N = np.minimum(spans_N2[:, 1], high) - np.maximum(spans_N2[:, 0], low)
        means.append(float(np.maximum(overlap_N, 0.0).sum() / (high - low)))
    return tuple(means)
