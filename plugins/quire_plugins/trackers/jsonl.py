"""The records of a run as files: config.json, requests.jsonl, steps.jsonl, summary.json."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from quire.config.checks import check_not_negative
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
        check_not_negative("tracker", self, "flush_seconds", what="number of seconds")


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
            self._requests = _Buffer(directory / "requests.jsonl")
            self._steps = _Buffer(directory / "steps.jsonl")
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
    """Records on their way to a file. A step of virtual time takes microseconds, and so must its record:
    msgspec encodes one in two, the standard library in thirty.
    """

    def __init__(self, path: Path) -> None:
        import msgspec

        path.unlink(missing_ok=True)
        self.records: list[RequestRecord | StepRecord] = []
        self._path = path
        self._writer: JsonLinesWriter | None = JsonLinesWriter(path)
        self._encode = msgspec.json.Encoder(enc_hook=_plain).encode_lines

    def flush(self) -> None:
        records, self.records = self.records, []
        if self._writer is None:
            return
        try:
            try:
                self._writer.append(self._encode(records))
            except UnicodeEncodeError:  # half a surrogate pair, in an id that a client made up
                self._writer.write(asdict(record) for record in records)
        except OSError as error:
            _logger.warning("%s ends early, the run goes on: %s", self._path, error.strerror)
            self._writer.close()
            self._writer = None

    def close(self) -> None:
        self.flush()
        if self._writer is not None:
            self._writer.close()


def _plain(value: object) -> int | float:
    """A number of numpy's, where an executor measured with one."""
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise TypeError(f"{value!r} is of {type(value).__name__}, which no record holds")
