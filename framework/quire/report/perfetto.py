"""A study's runs in the Trace Event Format: a process a run, in it lanes of requests, and counters."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quire.report.recorded import RecordedRun
from quire.report.spans import spans_of
from quire.report.study import Study


def write_requests_trace(study: Study, path: Path) -> None:
    """Write what ui.perfetto.dev and chrome://tracing read; times are microseconds."""
    with path.open("w", encoding="utf-8") as file:
        file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
        first = True
        for process, cell in enumerate(study.cells):
            label = " ".join(filter(None, (cell.arm, f"seed {cell.run.seed}", cell.condition)))
            for event in request_events(cell.run, process=process, label=label):
                file.write(("" if first else ",\n") + json.dumps(event))
                first = False
        file.write("\n]}\n")


def request_events(run: RecordedRun, *, process: int, label: str) -> Iterator[dict[str, Any]]:
    """Each sample as slices of its spans, on the lowest lane that is free; then counters of every step."""
    yield {"ph": "M", "name": "process_name", "pid": process, "args": {"name": label}}
    busy: list[tuple[float, int]] = []
    free: list[int] = []
    for record in run.requests:
        spans = spans_of(record)
        if not spans:
            continue
        while busy and busy[0][0] <= spans[0].start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (spans[-1].end, lane))
        for span in spans:
            yield {
                "ph": "X",
                "name": span.state,
                "pid": process,
                "tid": lane + 1,
                "ts": span.start * 1e6,
                "dur": (span.end - span.start) * 1e6,
                "args": {"request": record.request_id, "sample": record.sample, "tenant": record.tenant},
            }
    for step in run.steps:
        counts = {"waiting": step.num_waiting, "running": step.num_running}
        blocks = {"used": step.kv_used, "cached": step.kv_cached}
        for name, values in (("sequences", counts), ("KV blocks", blocks)):
            yield {"ph": "C", "name": name, "pid": process, "ts": step.start * 1e6, "args": values}
