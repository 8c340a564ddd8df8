"""A Prometheus histogram that takes many values at once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from math import inf

from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString


class BulkHistogram(Collector):
    """Reads like prometheus_client's own, which takes two microseconds a value: a value for every token would
    cost more than sending it.
    """

    def __init__(
        self,
        name: str,
        text: str,
        *,
        labels: Mapping[str, str],
        buckets: tuple[float, ...],
        registry: CollectorRegistry,
    ) -> None:
        """`buckets` are upper bounds, ascending, without infinity."""
        self._name = name
        self._text = text
        self._labels = labels
        self._bounds = buckets
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, values: Iterable[float]) -> None:
        """Count each value in the first bucket whose bound is not below it."""
        bounds, counts = self._bounds, self._counts
        for value in values:
            counts[bisect_left(bounds, value)] += 1
            self._sum += value

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """For the registry."""
        family = HistogramMetricFamily(self._name, self._text, labels=tuple(self._labels))
        bounds = map(floatToGoString, (*self._bounds, inf))
        below = accumulate(self._counts)
        family.add_metric(
            tuple(self._labels.values()), [(b, n) for b, n in zip(bounds, below, strict=True)], self._sum
        )
        yield family
