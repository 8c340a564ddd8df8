"""How much of the time a GPU computes, from the spans of its kernels.

    kernels   a--- b-- c      a--- b-- c      a--- b-- c
    period    |===============|===============|              from one c-free start of `a` to the next

Kernels that run once a step tell where steps begin: between the first and the last of them lie whole steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Span:
    """One kernel's run, in seconds."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class Busy:
    """What a step takes: `busy` seconds in which at least one kernel ran, of `period` seconds."""

    steps: int
    busy: float
    period: float
    kernels: float


def busy_per_step(spans: Iterable[Span], *, steps: int) -> Busy | None:
    """Of some `steps` steps, those that lie wholly between two runs of a kernel that runs once a step.

    None if no kernel ran about so often.
    """
    spans = sorted(spans, key=lambda span: span.start)
    counts = Counter(span.name for span in spans)
    once = [name for name, count in counts.items() if count >= 2 and abs(count - steps) <= 2]
    if not once:
        return None
    starts = [span.start for span in spans if span.name == once[0]]
    first, last = starts[0], starts[-1]
    inside = [span for span in spans if first <= span.start < last]
    busy, until = 0.0, first
    for span in inside:
        end = min(span.end, last)
        busy += max(0.0, end - max(span.start, until))
        until = max(until, end)
    whole = len(starts) - 1
    return Busy(steps=whole, busy=busy / whole, period=(last - first) / whole, kernels=len(inside) / whole)
