"""A recorded run, read back from the files of tracker=jsonl, whole or cut short."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from quire.config.slo import SloConfig
from quire.engine.records import RequestRecord, StepRecord
from quire.errors import UserError
from quire.jobs.jsonl import numbered_lines
from quire.metrics.summary import Summary

_Record = TypeVar("_Record", RequestRecord, StepRecord)


@dataclass(kw_only=True)
class RecordedRun:
    """Everything that a run's directory says. Times count from the run's first event."""

    directory: Path
    name: str
    """Its directory, seen from the one that is reported on."""
    description: dict[str, Any]
    """config.json: resolved configuration, choices, versions, commits, machine."""
    requests: list[RequestRecord]
    """One record a sample, by arrival."""
    steps: list[StepRecord]
    summary: dict[str, Any]
    """summary.json; where there is none, the metrics of the records."""
    cut: str | None
    """Why the run did not come to its end; None if it did."""
    notes: list[str]
    """What was skipped."""

    @property
    def config(self) -> dict[str, Any]:
        return self.description["config"]

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def completed(self) -> list[RequestRecord]:
        return [each for each in self.requests if each.finish_reason not in ("error", "abort")]


def find_runs(directory: Path) -> tuple[list[Path], list[Path]]:
    """Directories of runs in `directory`, itself included, in natural order; then those of cells of a sweep
    that left no record.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: is no directory")
    begun = {path.parent for path in directory.rglob("config.json") if _describes_run(path)}
    runs = {run for run in begun if (run / "requests.jsonl").exists()}
    cells = begun | {path.parents[1] for path in directory.rglob(".hydra/overrides.yaml")}
    empty = [cell for cell in cells if not any(run.is_relative_to(cell) for run in runs)]
    if not runs:
        raise UserError(
            f"{directory}: has no recorded run, a directory with config.json, requests.jsonl and steps.jsonl"
        )
    return sorted(runs, key=_natural), sorted(empty, key=_natural)


def read_run(directory: Path, *, name: str) -> RecordedRun:
    """Read a run. Raises UserError, naming file and line, if its files are not those of a run. A last line
    cut short, as a killed run leaves it, is skipped, and said so.
    """
    notes: list[str] = []
    description = _json(directory / "config.json")
    requests = _records(directory / "requests.jsonl", RequestRecord, notes)
    steps = _records(directory / "steps.jsonl", StepRecord, notes)
    origin = min([*(r.arrival for r in requests), *(s.start for s in steps)], default=0.0)
    for record in requests:
        _shift(record, -origin)
    steps = [replace(s, start=s.start - origin, end=s.end - origin) for s in steps]
    requests.sort(key=lambda record: (record.arrival, record.request_id, record.sample))
    path = directory / "summary.json"
    if path.exists():
        summary = _json(path)
        cut = summary["error"] and f"the run failed: {summary['error']}"
        cut = cut or ("the run was interrupted" if summary["interrupted"] else None)
        cut = cut or (f"the run ended early: {early}" if (early := summary.get("ended_early")) else None)
    else:
        summary = _summarise(description, requests, steps)
        ended = f"{len(requests)} request{'' if len(requests) == 1 else 's'}"
        cut = f"the run was cut after {ended}: there is no summary.json, requests under way are missing"
    return RecordedRun(
        directory=directory,
        name=name,
        description=description,
        requests=requests,
        steps=steps,
        summary=summary,
        cut=cut,
        notes=notes,
    )


def _describes_run(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"config", "choices"} <= content.keys()


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def _records(path: Path, kind: type[_Record], notes: list[str]) -> list[_Record]:
    decoder = msgspec.json.Decoder(kind)
    records: list[_Record] = []
    try:
        for number, line in numbered_lines(path):
            try:
                records.append(decoder.decode(line))
            except msgspec.MsgspecError as error:
                if not line.endswith(b"\n"):
                    notes.append(f"{path.name}, line {number}: cut short, skipped")
                    break
                raise UserError(f"{path}, line {number}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return records


def _shift(record: RequestRecord, by: float) -> None:
    record.arrival += by
    record.first_scheduled = None if record.first_scheduled is None else record.first_scheduled + by
    record.finish = None if record.finish is None else record.finish + by
    for name in ("token_times", "preempted", "resumed"):
        setattr(record, name, [time + by for time in getattr(record, name)])


def _summarise(
    description: dict[str, Any], requests: Iterable[RequestRecord], steps: Iterable[StepRecord]
) -> dict[str, Any]:
    summary = Summary(slo=SloConfig(**description["config"].get("slo", {})))
    for request in requests:
        summary.add_request(request)
    for step in steps:
        summary.add_step(step)
    return {"interrupted": True, "error": None, **summary.metrics()}


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in path.parts]
