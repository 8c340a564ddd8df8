"""The study as tables: one row a run, a sample, a step, a metric compared; for CSV and Parquet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.metrics.definitions import SAMPLE_METRICS
from quire.report.arms import Cell
from quire.report.study import Study

if TYPE_CHECKING:
    import pyarrow as pa

_SINGLE = ("queue_s", "ttft_s", "tpot_s", "itl_max_s", "e2e_s", "normalized_latency_s")


def run_rows(study: Study) -> list[dict[str, Any]]:
    """A run each: what it is, its window, and its metrics, `ttft_s.p99` and such."""
    return [
        _identity(cell)
        | {
            "cut": cell.run.cut,
            "unstable": study.windows[cell.run.name].unstable if cell.run.requests else None,
            "drain_s": study.windows[cell.run.name].drain_s if cell.run.requests else None,
        }
        | _flat(cell.run.summary)
        for cell in study.cells
    ]


def request_rows(study: Study) -> Iterable[dict[str, Any]]:
    """A sample each, with its latencies; `measured` if it came after the warm-up."""
    metrics = {metric.name: metric for metric in SAMPLE_METRICS if metric.name in _SINGLE}
    for cell in study.cells:
        for record in cell.run.requests:
            yield _identity(cell) | {
                "request_id": record.request_id,
                "sample": record.sample,
                "tenant": record.tenant,
                "measured": study.windows[cell.run.name].has(record),
                "finish_reason": record.finish_reason,
                "arrival_s": record.arrival,
                "first_scheduled_s": record.first_scheduled,
                "finish_s": record.finish,
                "prompt_tokens": record.num_prompt_tokens,
                "output_tokens": record.num_output_tokens,
                "cached_tokens": record.num_cached_tokens,
                "computed_tokens": record.num_computed_tokens,
                "preemptions": record.num_preemptions,
                **{name: next(iter(metric.values(record)), None) for name, metric in metrics.items()},
            }


def step_rows(study: Study) -> Iterable[dict[str, Any]]:
    """A step each."""
    names = (
        *("index", "start", "end", "seconds", "schedule_seconds", "num_tokens", "num_sequences"),
        *("prefill_tokens", "decode_sequences", "num_running", "num_waiting", "num_preempted"),
        *("kv_used", "kv_cached", "kv_total", "kv_tokens_used", "kv_tokens_reserved"),
    )
    for cell in study.cells:
        for step in cell.run.steps:
            yield _identity(cell) | {name: getattr(step, name) for name in names}


def comparison_rows(study: Study) -> list[dict[str, Any]]:
    """A metric of an arm against the baseline each; changes are fractions."""
    return [
        {
            "condition": found.condition,
            "baseline": found.baseline,
            "arm": found.arm,
            "seeds": len(found.seeds),
            "pairs": found.pairs,
            "metric": row.metric,
            "at": row.at,
            "baseline_value": row.baseline,
            "arm_value": row.arm,
            "change": row.interval and row.interval.change,
            "low": row.interval and row.interval.low,
            "high": row.interval and row.interval.high,
            "holds_for_all_metrics": row.cautious and row.cautious.excludes_zero,
            "better_fraction": row.better,
            "verdict": row.verdict,
        }
        for found in study.comparisons
        for row in found.rows
    ]


def write_tables(study: Study, directory: Path) -> None:
    """runs, requests and comparison as CSV and Parquet, steps as Parquet."""
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as parquet

    tables: dict[str, pa.Table] = {
        "runs": pa.Table.from_pylist(run_rows(study)),
        "requests": pa.Table.from_pylist(list(request_rows(study))),
        "steps": pa.Table.from_pylist(list(step_rows(study))),
        "comparison": pa.Table.from_pylist(comparison_rows(study)),
    }
    for name, table in tables.items():
        if not table.num_columns:
            continue
        parquet.write_table(table, directory / f"{name}.parquet")
        if name != "steps":
            csv.write_csv(table, directory / f"{name}.csv")


def _identity(cell: Cell) -> dict[str, Any]:
    return {"run": cell.run.name, "arm": cell.arm, "condition": cell.condition, "seed": cell.run.seed}


def _flat(summary: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in summary.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, int | float | str | bool) or value is None:
            flat[prefix + key] = value
    return flat
