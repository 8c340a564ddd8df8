"""A fair sample of a run's requests, as rows of a table."""

from __future__ import annotations

import operator
import random
from typing import Any

from quire.engine.records import RequestRecord
from quire.metrics.definitions import METRICS, SampleMetric

_LATENCIES = ("queue_s", "ttft_s", "tpot_s", "itl_max_s", "e2e_s", "normalized_latency_s")
COLUMNS = (
    "request",
    "sample",
    "tenant",
    "arrival_s",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "preemptions",
    "finish_reason",
    *_LATENCIES,
)
"""Of a row. Latencies are those of `quire.metrics.definitions`, None for samples that did not complete."""
LATENCIES = dict(zip(_LATENCIES, range(len(COLUMNS) - len(_LATENCIES), len(COLUMNS)), strict=True))
"""Where in a row they are."""


class RequestSample:
    """Keeps `size` samples of requests at most, each with the same probability (Vitter, Random Sampling with
    a Reservoir, TOMS 1985, algorithm R). `seen` is how many there were.
    """

    def __init__(self, *, size: int) -> None:
        self.seen = 0
        self._size = size
        self._rows: list[list[Any]] = []
        self._random = random.Random(0)

    def add(self, record: RequestRecord) -> None:
        """A sample ended."""
        self.seen += 1
        if len(self._rows) < self._size:
            self._rows.append(_row(record))
        elif (place := self._random.randrange(self.seen)) < self._size:
            self._rows[place] = _row(record)

    def rows(self) -> list[list[Any]]:
        """A row a sample, by arrival."""
        return sorted(self._rows, key=operator.itemgetter(COLUMNS.index("arrival_s")))

    def completed(self, latency: str) -> list[float]:
        """That latency of the samples that have it."""
        values = (row[LATENCIES[latency]] for row in self._rows)
        return [value for value in values if value is not None]


def _row(record: RequestRecord) -> list[Any]:
    completed = record.finish_reason not in ("error", "abort")
    return [
        record.request_id,
        record.sample,
        record.tenant,
        record.arrival,
        record.num_prompt_tokens,
        record.num_cached_tokens,
        record.num_output_tokens,
        record.num_preemptions,
        record.finish_reason,
        *(_latency(name, record) if completed else None for name in _LATENCIES),
    ]


def _latency(name: str, record: RequestRecord) -> float | None:
    metric = METRICS[name]
    assert isinstance(metric, SampleMetric)
    return next(iter(metric.values(record)), None)
