"""When a run under way is sure to miss its objectives, so that nobody need wait for its end."""

from __future__ import annotations

from quire.config.slo import SloConfig
from quire.engine.records import RequestRecord
from quire.metrics.definitions import METRICS, SampleMetric

_OF_A_REQUEST = ("ttft", "tpot", "e2e")
"""Latencies of which a request has one: so many of them decide a percentile."""


class Shortfall:
    """Counts the requests beyond each `slo.*_pNN`.

    Of N values in order, percentile q lies between the one at (N - 1) * q / 100, rounded down, and the next:
    once so many are beyond the bound that this one is too, the others cannot bring the percentile back.
    """

    def __init__(self, *, slo: SloConfig, requests: int) -> None:
        """`requests` is how many there will be at most."""
        self._bounds: list[tuple[SampleMetric, float, int]] = []
        """Metric, bound, and how many beyond it are too many."""
        for key, bound in slo.for_runs.items():
            name, _, at = key.partition("_p")
            metric = METRICS[f"{name}_s"] if name in _OF_A_REQUEST else None
            if isinstance(metric, SampleMetric):
                self._bounds.append((metric, bound, requests - (requests - 1) * int(at) // 100))
        self._beyond = [0] * len(self._bounds)

    def add(self, record: RequestRecord) -> bool:
        """A request ended; whether the run is sure to miss an objective, or has lost a request."""
        if record.finish_reason in ("error", "abort"):
            return True
        for place, (metric, bound, _) in enumerate(self._bounds):
            self._beyond[place] += any(value > bound for value in metric.values(record))
        return any(beyond >= most for beyond, (_, _, most) in zip(self._beyond, self._bounds, strict=True))
