"""A run's requests as a table that a spreadsheet opens."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quire.engine.records import RequestRecord, StepRecord
from quire.errors import UserError
from quire.interfaces import Tracker

_COLUMNS = ("request_id", "sample", "arrival", "finish", "num_prompt_tokens", "num_output_tokens", "error")


@dataclass
class NewPluginConfig:
    """Options of `tracker=new_plugin`."""

    file: str = "requests.csv"
    """Name of the table in the run's directory."""

    def __post_init__(self) -> None:
        if Path(self.file).name != self.file:
            raise UserError(f"tracker.file={self.file!r}: must be a file's name without a directory")


class NewPlugin(Tracker):
    """One CSV row for each sample of a request."""

    Config = NewPluginConfig

    def __init__(self, *, config: NewPluginConfig) -> None:
        self._name = config.file

    def start(self, directory: Path, description: Mapping[str, Any]) -> None:
        path = directory / self._name
        try:
            directory.mkdir(parents=True, exist_ok=True)
            # a client may call its request anything, also what no text has
            self._file = path.open("w", newline="", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise UserError(f"tracker=new_plugin: cannot write to {path}: {error.strerror}") from None
        self._writer = csv.writer(self._file)
        self._writer.writerow(_COLUMNS)

    def step(self, record: StepRecord) -> None:
        """Steps are not recorded."""

    def request(self, record: RequestRecord) -> None:
        self._writer.writerow([getattr(record, column) for column in _COLUMNS])

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._file.close()
