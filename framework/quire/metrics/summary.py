"""From records to a summary: distributions, gathered while the run goes on."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from quire.config.slo import SloConfig
from quire.engine.records import RequestRecord, StepRecord
from quire.metrics.definitions import SAMPLE_METRICS, STEP_METRICS, TOTAL_METRICS
from quire.metrics.latencies import keeps
from quire.metrics.totals import Tally, Totals, recomputed_tokens
from quire.metrics.values import Values, exact_distribution

PERCENTILES = (50, 90, 99)
_BATCH = 512
"""Steps that are gathered before they are counted: a metric at a time costs half of a step at a time."""
_OF_TENANTS = ("ttft_s", "e2e_s", "normalized_latency_s", "sample_output_tokens")


def distribution(values: Sequence[float] | array[float]) -> dict[str, float] | None:
    """Count, mean, percentiles and maximum of `values`; None if there are none.

    The percentile q of N sorted values is read off at position (N - 1) * q / 100, linearly between
    neighbours (numpy's "linear", Hyndman and Fan's definition 7).
    """
    return exact_distribution(values, PERCENTILES)


class Summary:
    """Takes every record of a run, in any order, and says what they come to.

    Memory is bounded, whatever the run's length: percentiles are exact up to 131,072 values of a
    metric, and within 0.05% beyond (`quire.metrics.values`).
    """

    def __init__(self, *, slo: SloConfig | None = None) -> None:
        self.totals = Totals(slo=slo or SloConfig())
        self._split: dict[str, list[int]] = {}
        """Of requests of several samples under way: samples still to end, and how many completed."""
        self._values = {metric.name: Values() for metric in (*SAMPLE_METRICS, *STEP_METRICS)}
        self._steps: list[StepRecord] = []
        self._tenants: dict[str, dict[str, Values]] = {}
        self._phases: dict[str, Values] = {}

    def add_request(self, record: RequestRecord) -> None:
        """A sample ended, for whatever reason."""
        totals = self.totals
        totals.start = min(totals.start, record.arrival)
        if record.finish is not None:
            totals.end = max(totals.end, record.finish)
        if record.first_scheduled is not None:
            totals.looked_up_tokens += record.num_prompt_tokens
            totals.cached_tokens += record.num_cached_tokens
        totals.preemptions += record.num_preemptions
        totals.recomputed_tokens += recomputed_tokens(record)
        if self._is_first(record):
            totals.requests += 1
            totals.prompt_tokens += record.num_prompt_tokens
        if record.finish_reason == "error":
            totals.failed += 1
        elif record.finish_reason == "abort":
            totals.aborted += 1
        else:
            self._add_completed(record)

    def add_step(self, record: StepRecord) -> None:
        """A step was committed."""
        self._steps.append(record)
        if len(self._steps) >= _BATCH:
            self._count_steps()

    def metrics(self) -> dict[str, Any]:
        """Every metric of `quire.metrics.definitions.METRICS` by name: a number, a distribution, None, or
        distributions by name.
        """
        self._count_steps()
        totals = {metric.name: metric.value(self.totals) for metric in TOTAL_METRICS}
        tenants = {tenant: _distributions(self._tenants[tenant]) for tenant in sorted(self._tenants)}
        groups = {"tenants": tenants, "phase_s": _distributions(self._phases)}
        return totals | _distributions(self._values) | groups

    def _count_steps(self) -> None:
        totals, (steps, self._steps) = self.totals, (self._steps, [])
        for record in steps:
            totals.add_step(record)
            for name, seconds in record.phases.items():
                self._phases.setdefault(name, Values()).append(seconds)
        for metric in STEP_METRICS:
            self._values[metric.name].extend(map(metric.value, steps))

    def _is_first(self, record: RequestRecord) -> bool:
        """Whether the sample is the first of its request to complete."""
        completed = record.finish_reason not in ("error", "abort")
        if record.num_samples == 1:
            return completed
        progress = self._split.setdefault(record.request_id, [record.num_samples, 0])
        progress[0] -= 1
        progress[1] += completed
        if progress[0] == 0:
            del self._split[record.request_id]
        return completed and progress[1] == 1

    def _add_completed(self, record: RequestRecord) -> None:
        totals = self.totals
        totals.completed += 1
        totals.output_tokens += record.num_output_tokens
        totals.good += keeps(totals.slo, record)
        totals.service.add(record)
        tenant = self._tenants.setdefault(record.tenant, {name: Values() for name in _OF_TENANTS})
        for metric in SAMPLE_METRICS:
            values = list(metric.values(record))
            self._values[metric.name].extend(values)
            if metric.name in tenant:
                tenant[metric.name].extend(values)
            if metric.name == "normalized_latency_s":
                tally = totals.latencies.setdefault(record.tenant, Tally())
                tally.count += len(values)
                tally.total += sum(values)


def _distributions(values: Mapping[str, Values]) -> dict[str, dict[str, float] | None]:
    return {name: each.distribution(PERCENTILES) for name, each in values.items()}
