"""The records of a run as files: config.json, requests.jsonl, steps.jsonl, summary.json."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from quire.engine.records import RequestRecord, StepRecord
from quire.errors import UserError
from quire.interfaces.tracker import Tracker
from quire.jobs.json_file import write_json
from quire.jobs.jsonl import JsonLinesWriter

_logger = logging.getLogger(__name__)


@dataclass
class JsonlConfig:
    """Options of `tracker=jsonl`."""

    flush_records: int = 256
    """Steps kept in memory before they are written. Requests are written as they end."""
    flush_seconds: float = 1.0
    """The same in seconds of the engine's clock: the steps that a killed run loses at most."""

    def __post_init__(self) -> None:
        if self.flush_records < 1:
            raise UserError(f"tracker.flush_records={self.flush_records}: must be at least 1")
        if not self.flush_seconds >= 0:
            raise UserError(f"tracker.flush_seconds={self.flush_seconds}: must be at least 0")


class JsonlTracker(Tracker):
    """One line a step, written in batches, and one a sample, written at once.

    A directory that cannot be written to is an error at the start. If writing fails later (the disk is
    full), the run goes on and a warning says which file ends early; its lines so far stay whole.
    """

    Config = JsonlConfig

    def __init__(self, *, config: JsonlConfig) -> None:
        self._config = config
        self._flushed = 0.0

    def start(self, directory: Path, description: Mapping[str, Any]) -> None:
        self._directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            write_json(directory / "config.json", description)
            self._requests = _Buffer(directory / "requests.jsonl", RequestRecord)
            self._steps = _Buffer(directory / "steps.jsonl", StepRecord)
        except OSError as error:
            raise UserError(f"tracker=jsonl: cannot write to {directory}: {error.strerror}") from None

    def step(self, record: StepRecord) -> None:
        steps = self._steps
        steps.records.append(record)
        overdue = record.end - self._flushed >= self._config.flush_seconds
        if overdue or len(steps.records) >= self._config.flush_records:
            self._flushed = record.end
            steps.flush()

    def request(self, record: RequestRecord) -> None:
        self._requests.records.append(record)
        self._requests.flush()

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._requests.close()
        self._steps.close()
        try:
            write_json(self._directory / "summary.json", summary)
        except OSError as error:
            _logger.warning("cannot write summary.json to %s: %s", self._directory, error.strerror)


class _Buffer:
    """Records of one type on their way to a file."""

    def __init__(self, path: Path, record: type[RequestRecord] | type[StepRecord]) -> None:
        path.unlink(missing_ok=True)
        self.records: list[Any] = []
        self._path = path
        self._writer: JsonLinesWriter | None = JsonLinesWriter(path)
        self._names = tuple(field.name for field in fields(record))
        self._values = attrgetter(*self._names)

    def flush(self) -> None:
        records, self.records = self.records, []
        if self._writer is None:
            return
        try:
            self._writer.write(dict(zip(self._names, self._values(r), strict=True)) for r in records)
        except OSError as error:
            _logger.warning("%s ends early, the run goes on: %s", self._path, error.strerror)
            self._writer.close()
            self._writer = None

    def close(self) -> None:
        self.flush()
        if self._writer is not None:
            self._writer.close()
