"""How long work on a device takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_WARM_UPS = 3
_LEAST, _MOST = 5, 200
"""Timed rounds. A budget of 0 asks for a single one, and none to warm up."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one call: the median over the rounds, the least and the most."""

    seconds: float
    least: float
    most: float
    rounds: int
    graph: bool
    """Whether a CUDA graph replayed the calls, so that launching them cost nothing."""


def time_calls(
    calls: Sequence[Callable[[], object]], *, device: str, budget: float = 0.3, graph: bool = False
) -> Timing:
    """Time of one of `calls`, which do the same to data of their own: between two rounds through all of them
    the caches forget what they held. On a GPU by events, and with `graph` in a captured graph.
    """
    import torch

    for _ in range(_WARM_UPS if budget else 0):
        for call in calls:
            call()
    if device == "cpu":
        rounds = _rounds(lambda: _wall(calls), budget)
    else:
        torch.cuda.synchronize()
        replay = _captured(calls).replay if graph else lambda: [call() for call in calls]
        replay()
        torch.cuda.synchronize()
        rounds = _rounds(lambda: _events(replay), budget)
    each = [seconds / len(calls) for seconds in rounds]
    return Timing(
        seconds=statistics.median(each),
        least=min(each),
        most=max(each),
        rounds=len(each),
        graph=graph and device != "cpu",
    )


def _rounds(measure: Callable[[], float], budget: float) -> list[float]:
    ends, times = time.perf_counter() + budget, list[float]()
    while len(times) < (_LEAST if budget else 1) or (time.perf_counter() < ends and len(times) < _MOST):
        times.append(measure())
    return times


def _wall(calls: Sequence[Callable[[], object]]) -> float:
    began = time.perf_counter()
    for call in calls:
        call()
    return time.perf_counter() - began


def _events(run: Callable[[], object]) -> float:
    import torch

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def _captured(calls: Sequence[Callable[[], object]]) -> torch.cuda.CUDAGraph:
    import torch

    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        for call in calls:
            call()
    return captured
