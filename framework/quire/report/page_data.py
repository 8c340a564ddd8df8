"""What report.html embeds: the study as JSON, long columns as base64 of little-endian numbers."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import accumulate
from typing import Any

import numpy as np

from quire.engine.records import StepRecord
from quire.metrics.definitions import METRICS
from quire.report.arms import Cell
from quire.report.curves import cdfs, points
from quire.report.spans import STATES, spans_of
from quire.report.study import Study

MAX_TIMELINE_REQUESTS = 60_000
"""Of all timelines together; later runs are left out."""
MAX_STEPS = 20_000
"""Of one timeline; longer runs have neighbouring steps put together."""
SHOWN = (
    *("requests", "failed", "duration_s", "output_tokens_per_s", "goodput_per_s", "slo_attainment"),
    *("ttft_s.mean", "ttft_s.p99", "tpot_s.mean", "itl_s.p99", "itl_max_s.mean", "e2e_s.mean", "e2e_s.p99"),
    *("queue_s.mean", "preemptions", "recomputed_tokens", "prefix_hit_rate", "kv_use.mean", "kv_wasted.mean"),
    *("service_difference", "jain_service", "jain_latency", "schedule_us.mean"),
)
"""Metrics of a run in its table."""


def page_data(study: Study) -> dict[str, Any]:
    """JSON can hold it."""
    timelines, left_out = _timelines(study)
    notes = list(study.notes)
    if left_out:
        notes.append(f"timelines of {left_out} runs are left out, to keep this page small")
    return {
        "title": study.directory.resolve().name,
        "warmup": study.warmup,
        "confidence": study.confidence,
        "arms": study.arms,
        "notes": notes,
        "metrics": {
            name: {"unit": METRICS[name].unit, "formula": METRICS[name].formula}
            for name in dict.fromkeys(shown.partition(".")[0] for shown in SHOWN)
        },
        "runs": [_run(study, cell) for cell in study.cells],
        "comparisons": [
            {
                "condition": found.condition,
                "baseline": found.baseline,
                "arm": found.arm,
                "seeds": len(found.seeds),
                "pairs": found.pairs,
                "left_out": found.left_out,
                "sentence": found.sentence,
                "rows": [
                    asdict(row)
                    | {
                        "label": row.label,
                        "verdict": row.verdict,
                        "unit": METRICS[row.metric].unit,
                        "shown": bool(row.interval and row.interval.excludes_zero),
                        "holds": bool(row.cautious and row.cautious.excludes_zero),
                        "lower_is_better": row.at != "run",
                    }
                    for row in found.rows
                ],
            }
            for found in study.comparisons
        ],
        "capacities": study.capacities,
        "cdfs": [
            asdict(each) | {name: _column(getattr(each, name)) for name in ("levels", "values")}
            for each in cdfs(study)
        ],
        "points": [asdict(each) for each in points(study)],
        "timelines": timelines,
    }


def _run(study: Study, cell: Cell) -> dict[str, Any]:
    run = cell.run
    window = study.windows.get(run.name)
    return {
        "name": run.name,
        "arm": cell.arm,
        "condition": cell.condition,
        "seed": run.seed,
        "cut": run.cut,
        "unstable": window is not None and window.unstable,
        "drain_s": None if window is None else window.drain_s,
        "values": {name: summary_value(run.summary, name) for name in SHOWN},
        "choices": run.description["choices"],
        "model": run.config["model"],
        "command": run.description.get("command"),
        "commit": {
            name: each.get("commit") for name, each in run.description.get("distributions", {}).items()
        },
        "machine": run.description.get("machine"),
        "tenants": run.summary.get("tenants", {}),
        "phases": run.summary.get("phase_s", {}),
    }


def summary_value(summary: dict[str, Any], name: str) -> float | None:
    """A metric of a run by name, that of a distribution with its column: `ttft_s.p99`."""
    value: Any = summary
    for part in name.split("."):
        value = None if value is None else value.get(part)
    return value


def _timelines(study: Study) -> tuple[list[dict[str, Any]], int]:
    held = accumulate(len(cell.run.requests) for cell in study.cells)
    kept = [
        cell
        for place, (cell, total) in enumerate(zip(study.cells, held, strict=True))
        if cell.run.requests and (place == 0 or total <= MAX_TIMELINE_REQUESTS)
    ]
    with_requests = sum(bool(cell.run.requests) for cell in study.cells)
    return [_timeline(study, cell) for cell in kept], with_requests - len(kept)


def _timeline(study: Study, cell: Cell) -> dict[str, Any]:
    requests = cell.run.requests
    spans = [spans_of(record) for record in requests]
    tenants = sorted({record.tenant for record in requests})
    number = {name: place for place, name in enumerate(tenants)}
    window = study.windows[cell.run.name]
    return {
        "run": cell.run.name,
        "label": " · ".join(filter(None, (cell.arm, f"seed {cell.run.seed}", cell.condition))),
        "measured": [window.start, window.end],
        "states": STATES,
        "tenants": tenants,
        "ids": [r.request_id if r.num_samples == 1 else f"{r.request_id}/{r.sample}" for r in requests],
        "reasons": [r.finish_reason for r in requests],
        "tenant": _column(number[r.tenant] for r in requests),
        "arrival": _column(r.arrival for r in requests),
        "end": _column(each[-1].end if each else r.arrival for r, each in zip(requests, spans, strict=True)),
        "ttft": _column(r.token_times[0] - r.arrival if r.token_times else np.nan for r in requests),
        "worst_itl": _column(_worst_itl(r.token_times) for r in requests),
        "prompt": _column(r.num_prompt_tokens for r in requests),
        "output": _column(r.num_output_tokens for r in requests),
        "cached": _column(r.num_cached_tokens for r in requests),
        "preemptions": _column(r.num_preemptions for r in requests),
        "span_first": _column(accumulate((len(each) for each in spans), initial=0)),
        "span_state": _column(STATES.index(span.state) for each in spans for span in each),
        "span_start": _column(span.start for each in spans for span in each),
        "span_end": _column(span.end for each in spans for span in each),
        "steps": _steps(cell.run.steps),
    }


def _steps(steps: Sequence[StepRecord]) -> dict[str, Any]:
    """Columns of the steps; of neighbours put together the mean, and of KV memory the most."""
    together = -(-len(steps) // MAX_STEPS) or 1
    starts = np.arange(0, len(steps), together)
    sizes = np.diff(np.append(starts, len(steps)))

    def mean(name: str) -> np.ndarray:
        return np.add.reduceat([getattr(each, name) for each in steps], starts) / sizes

    def most(name: str) -> np.ndarray:
        return np.maximum.reduceat([getattr(each, name) for each in steps], starts)

    if not steps:
        return {"count": 0}
    decode = np.add.reduceat([each.num_tokens - each.prefill_tokens for each in steps], starts) / sizes
    return {
        "count": len(starts),
        "together": together,
        "index": _column(np.array([each.index for each in steps])[starts]),
        "start": _column(np.array([each.start for each in steps])[starts]),
        "end": _column(np.maximum.reduceat([each.end for each in steps], starts)),
        "prefill": _column(mean("prefill_tokens")),
        "decode": _column(decode),
        "sequences": _column(mean("num_sequences")),
        "waiting": _column(most("num_waiting")),
        "kv_used": _column(most("kv_used") / steps[0].kv_total),
        "kv_cached": _column(most("kv_cached") / steps[0].kv_total),
        "kv_total": steps[0].kv_total,
        "schedule_us": _column(mean("schedule_seconds") * 1e6),
    }


def _worst_itl(times: Sequence[float]) -> float:
    return float(np.diff(times).max()) if len(times) > 1 else np.nan


def _column(values: Iterable[float] | np.ndarray) -> str:
    """Base64 of doubles, as times of long runs need."""
    array = np.asarray(values if isinstance(values, np.ndarray | list) else list(values), dtype="<f8")
    return base64.b64encode(array.tobytes()).decode()
