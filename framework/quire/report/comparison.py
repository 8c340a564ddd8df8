"""Two arms compared: each metric's change with its interval, and a verdict in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quire.engine.records import RequestRecord
from quire.metrics.definitions import METRICS, SampleMetric
from quire.report.arms import Cell, refuse_unpaired
from quire.report.resampling import (
    DRAWS,
    Interval,
    PairedValues,
    change_interval,
    draw_requests,
    interval_over_seeds,
)
from quire.report.window import measured_window

COMPARED = (
    ("ttft_s", "mean"),
    ("ttft_s", "p99"),
    ("tpot_s", "mean"),
    ("itl_s", "p99"),
    ("itl_max_s", "mean"),
    ("e2e_s", "mean"),
    ("e2e_s", "p99"),
    ("normalized_latency_s", "mean"),
)
"""Latencies: the smaller the better."""
RATES = ("output_tokens_per_s", "goodput_per_s")
"""Of whole runs, drain included: the larger the better; resampled over seeds only."""
LABELS = {
    "ttft_s": "TTFT",
    "tpot_s": "TPOT",
    "itl_s": "ITL",
    "itl_max_s": "worst ITL",
    "e2e_s": "E2E",
    "normalized_latency_s": "normalised latency",
    "output_tokens_per_s": "output tokens/s",
    "goodput_per_s": "goodput",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One metric of two arms."""

    metric: str
    at: str
    """`mean` or a percentile over requests or tokens; `run` for a rate."""
    baseline: float
    arm: float
    """Means over seeds."""
    interval: Interval | None
    """Of the relative change; None where there is nothing to resample."""
    cautious: Interval | None
    """The same at a confidence that holds for all rows together (Bonferroni)."""
    better: float | None
    """Of the paired requests, the fraction in which the arm's own value is the better one (ties are half):
    0.5 is no effect. None for rates.
    """

    @property
    def label(self) -> str:
        return LABELS[self.metric] if self.at == "run" else f"{self.at} {LABELS[self.metric]}"

    @property
    def verdict(self) -> str:
        """'lowers mean E2E by 12% [9, 15]' or 'mean E2E: no difference shown [-3.0%, +4.1%]'."""
        found = self.interval
        if found is None:
            return f"{self.label}: not tested, one seed only"
        if not found.excludes_zero:
            return f"{self.label}: no difference shown [{100 * found.low:+.1f}%, {100 * found.high:+.1f}%]"
        ends = sorted((abs(found.low), abs(found.high)))
        shown = ", ".join(_percent(end) for end in ends)
        word = "lowers" if found.change < 0 else "raises"
        return f"{word} {self.label} by {_percent(abs(found.change))}% [{shown}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """An arm against the baseline, under one condition."""

    condition: str
    baseline: str
    arm: str
    seeds: tuple[int, ...]
    pairs: int
    """Requests that completed in both, after the warm-up, over all seeds."""
    left_out: int
    """Requests after the warm-up that one of the two did not complete."""
    unstable: tuple[str, ...]
    """Arms of which a run was unstable."""
    rows: tuple[Row, ...]
    confidence: float

    @property
    def sentence(self) -> str:
        """The whole of it in plain words."""
        shown = [row.verdict for row in self.rows if row.interval and row.interval.excludes_zero]
        rest = [row.label for row in self.rows if row.interval and not row.interval.excludes_zero]
        said = "; ".join(shown)
        if rest:
            said += f"{'; ' if said else ''}{', '.join(rest)}: no difference shown"
        where = f" ({self.condition})" if self.condition else ""
        caveats = [f"{arm} is unstable: its queue grows" for arm in self.unstable]
        if len(self.seeds) == 1:
            caveats.append("one seed: intervals cover its requests, not other seeds")
        caveat = f" ({'; '.join(caveats)})" if caveats else ""
        return f"{self.arm} against {self.baseline}{where}: {said or 'nothing to compare'}{caveat}"


def compare(
    cells: Sequence[Cell], *, baseline: str, arm: str, warmup: float, confidence: float
) -> Comparison | None:
    """Compare two arms under one condition, seed by seed; None if they share no seed."""
    runs = {(cell.arm, cell.run.seed): cell.run for cell in cells}
    seeds = sorted({seed for name, seed in runs if name == arm} & {s for name, s in runs if name == baseline})
    if not seeds:
        return None
    rng = np.random.default_rng(0)
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    draws: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    better: dict[str, list[float]] = {}
    unstable: set[str] = set()
    pairs = left_out = 0
    for seed in seeds:
        ours, theirs = runs[arm, seed], runs[baseline, seed]
        refuse_unpaired(theirs, ours)
        windows = {run.name: measured_window(run.requests, warmup=warmup) for run in (ours, theirs)}
        unstable |= {name for name, run in ((arm, ours), (baseline, theirs)) if windows[run.name].unstable}
        mine = {_key(r): r for r in ours.completed if windows[ours.name].has(r)}
        other = {_key(r): r for r in theirs.completed if windows[theirs.name].has(r)}
        shared = [key for key in other if key in mine]
        pairs += len(shared)
        left_out += len(mine.keys() | other.keys()) - len(shared)
        if not shared:
            continue
        drawn_DR = draw_requests(len(shared), rng=rng)
        whole_1R = np.ones((1, len(shared)), dtype=np.int32)
        for metric in dict.fromkeys(name for name, _ in COMPARED):
            values = _sample_metric(metric).values
            a = [list(values(mine[key])) for key in shared]
            b = [list(values(other[key])) for key in shared]
            better.setdefault(metric, []).extend(_wins(a, b))
            if not any(a) or not any(b):
                continue
            pair = PairedValues(a), PairedValues(b)
            for at in (at for name, at in COMPARED if name == metric):
                point = tuple(float(each.statistic(at, whole_1R)[0]) for each in pair)
                points.setdefault((metric, at), []).append((point[0], point[1]))
                resampled = tuple(each.statistic(at, drawn_DR) for each in pair)
                draws.setdefault((metric, at), []).append((resampled[0], resampled[1]))
    level = 1 - (1 - confidence) / (len(COMPARED) + len(RATES))
    rows: list[Row] = []
    for metric, at in COMPARED:
        if (metric, at) not in points:
            continue
        point_S2, (ours_SD, theirs_SD) = (
            np.array(points[metric, at]),
            np.array(draws[metric, at]).swapaxes(0, 1),
        )
        interval, cautious = (
            change_interval(point_S2[:, 0], point_S2[:, 1], ours_SD, theirs_SD, rng=rng, confidence=each)
            for each in (confidence, level)
        )
        rows.append(
            Row(
                metric=metric,
                at=at,
                arm=float(point_S2[:, 0].mean()),
                baseline=float(point_S2[:, 1].mean()),
                interval=interval,
                cautious=cautious,
                better=float(np.mean(better[metric])) if better[metric] else None,
            )
        )
    rows += _rates([(runs[arm, s].summary, runs[baseline, s].summary) for s in seeds], (confidence, level))
    return Comparison(
        condition=cells[0].condition,
        baseline=baseline,
        arm=arm,
        seeds=tuple(seeds),
        pairs=pairs,
        left_out=left_out,
        unstable=tuple(sorted(unstable)),
        rows=tuple(rows),
        confidence=confidence,
    )


def _rates(
    summaries: Sequence[tuple[dict[str, Any], dict[str, Any]]], levels: tuple[float, float]
) -> list[Row]:
    from scipy.stats import bootstrap

    def log_ratio(ours: np.ndarray, theirs: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.log(np.mean(ours, axis=axis) / np.mean(theirs, axis=axis))

    rows: list[Row] = []
    for metric in RATES:
        values = [(ours.get(metric), theirs.get(metric)) for ours, theirs in summaries]
        if not all(each for pair in values for each in pair):
            continue
        ours_S, theirs_S = np.array(values, dtype=float).T
        intervals: list[Interval | None] = [None, None]
        if len(values) > 1:
            change = math.expm1(log_ratio(ours_S, theirs_S))
            drawn = bootstrap(
                (ours_S, theirs_S),
                log_ratio,
                paired=True,
                n_resamples=DRAWS,
                method="percentile",
                rng=np.random.default_rng(0),
            )
            spread = float(drawn.standard_error)
            intervals = [
                interval_over_seeds(change, spread, seeds=len(values), confidence=each) for each in levels
            ]
        rows.append(
            Row(
                metric=metric,
                at="run",
                arm=float(ours_S.mean()),
                baseline=float(theirs_S.mean()),
                interval=intervals[0],
                cautious=intervals[1],
                better=None,
            )
        )
    return rows


def _sample_metric(name: str) -> SampleMetric:
    metric = METRICS[name]
    assert isinstance(metric, SampleMetric)
    return metric


def _percent(fraction: float) -> str:
    """Two digits, or none behind the point."""
    return f"{100 * fraction:.0f}" if fraction >= 0.0995 else f"{100 * fraction:.2g}"


def _key(record: RequestRecord) -> tuple[str, int]:
    return record.request_id, record.sample


def _wins(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> list[float]:
    """Of each pair: 1 if the mean of ours is smaller, 0 if larger, 0.5 if the same."""
    means = [(sum(a) / len(a), sum(b) / len(b)) for a, b in zip(ours, theirs, strict=True) if a and b]
    return [0.5 if a == b else float(a < b) for a, b in means]
