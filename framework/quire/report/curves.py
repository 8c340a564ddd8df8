"""What the plots show: distributions, latency against rate, and which arms are on the Pareto front."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from quire.metrics.definitions import METRICS, SampleMetric
from quire.report.arms import Cell
from quire.report.study import Study

CDF_METRICS = ("ttft_s", "itl_s", "tpot_s", "e2e_s")
_LEVELS = np.concatenate([np.linspace(0, 0.9, 91), np.linspace(0.901, 0.99, 90), np.linspace(0.991, 1, 10)])


@dataclass(frozen=True, kw_only=True, slots=True)
class Cdf:
    """Quantiles of a metric of an arm, its seeds together: a fraction `levels[i]` is at most `values[i]`."""

    metric: str
    arm: str
    condition: str
    levels: list[float]
    values: list[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """An arm under a condition: means over its seeds. Latencies in seconds, by name (`ttft_s.p99`)."""

    arm: str
    condition: str
    rate: float | None
    """Requests (or conversations) that arrive a second, as configured."""
    throughput: float
    """Output tokens a second."""
    latencies: dict[str, float]
    unstable: bool
    """Whether one of its runs is."""
    on_front: bool
    """Whether no other point has both more throughput and less p99 TTFT."""


def groups(study: Study) -> Iterator[tuple[str, str, list[Cell]]]:
    """Arm, condition and the runs (with requests) of each pair that has any."""
    for condition in study.conditions:
        for arm in study.arms:
            cells = [
                cell
                for cell in study.cells
                if cell.arm == arm and cell.condition == condition and cell.run.completed
            ]
            if cells:
                yield arm, condition, cells


def measured_values(study: Study, cells: Sequence[Cell], metric: str) -> list[float]:
    """A metric of the completed samples after the warm-up, all runs together."""
    found = METRICS[metric]
    assert isinstance(found, SampleMetric)
    return [
        value
        for cell in cells
        for record in cell.run.completed
        if study.windows[cell.run.name].has(record)
        for value in found.values(record)
    ]


def cdfs(study: Study) -> list[Cdf]:
    """One a metric, arm and condition."""
    curves: list[Cdf] = []
    for arm, condition, cells in groups(study):
        for metric in CDF_METRICS:
            values = measured_values(study, cells, metric)
            if values:
                curves.append(
                    Cdf(
                        metric=metric,
                        arm=arm,
                        condition=condition,
                        levels=_LEVELS.tolist(),
                        values=np.quantile(values, _LEVELS).tolist(),
                    )
                )
    return curves


def points(study: Study) -> list[Point]:
    """One an arm and condition."""
    found: list[Point] = []
    for arm, condition, cells in groups(study):
        latencies: dict[str, float] = {}
        for metric in CDF_METRICS:
            if values := measured_values(study, cells, metric):
                p50, p99 = np.percentile(values, [50, 99])
                latencies |= {
                    f"{metric}.mean": float(np.mean(values)),
                    f"{metric}.p50": float(p50),
                    f"{metric}.p99": float(p99),
                }
        throughput = np.mean([cell.run.summary["output_tokens_per_s"] or 0.0 for cell in cells])
        found.append(
            Point(
                arm=arm,
                condition=condition,
                rate=cells[0].values.get("workload.rate"),
                throughput=float(throughput),
                latencies=latencies,
                unstable=any(study.windows[cell.run.name].unstable for cell in cells),
                on_front=False,
            )
        )
    front = pareto_front([(each.throughput, each.latencies.get("ttft_s.p99", np.inf)) for each in found])
    return [replace(each, on_front=index in front) for index, each in enumerate(found)]


def pareto_front(pairs: Sequence[tuple[float, float]]) -> set[int]:
    """Indices of the pairs that no other beats: the first the larger the better, the second the smaller."""
    return {
        index
        for index, (gain, cost) in enumerate(pairs)
        if not any(g >= gain and c <= cost and (g, c) != (gain, cost) for g, c in pairs)
    }
