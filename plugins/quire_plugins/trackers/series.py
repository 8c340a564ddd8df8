"""What trackers of dashboards share: a run's files, its time series, and a sample of its requests."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quire.config.checks import check_above_zero
from quire.engine.records import RequestRecord, StepRecord
from quire.interfaces.tracker import Tracker
from quire_plugins.trackers.intervals import Intervals
from quire_plugins.trackers.jsonl import JsonlConfig, JsonlTracker
from quire_plugins.trackers.request_sample import RequestSample


@dataclass
class SeriesConfig(JsonlConfig):
    """Options of `tracker=jsonl`, and this."""

    interval_seconds: float = 1.0
    """Of the engine's clock, for a point of the time series."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_zero("tracker", self, "interval_seconds", what="number of seconds")


class SeriesTracker(Tracker):
    """Writes the files of `tracker=jsonl`, which remain the record, and gathers what a dashboard shows."""

    def __init__(self, *, config: SeriesConfig, sample_rows: int) -> None:
        """`sample_rows` is how many samples of requests are kept at most, for `sample`."""
        self.sample = RequestSample(size=sample_rows)
        self._files = JsonlTracker(config=config)
        self._intervals = Intervals(seconds=config.interval_seconds)

    @abstractmethod
    def open(self, directory: Path, description: Mapping[str, Any]) -> None:
        """The run begins; its files are open."""

    @abstractmethod
    def add_row(self, row: Mapping[str, float]) -> None:
        """An interval is over: its point of the time series (`Intervals`)."""

    @abstractmethod
    def conclude(self, summary: Mapping[str, Any]) -> None:
        """The run is over; its files are closed, and all rows were added."""

    def start(self, directory: Path, description: Mapping[str, Any]) -> None:
        self._files.start(directory, description)
        self.open(directory, description)

    def step(self, record: StepRecord) -> None:
        self._files.step(record)
        row = self._intervals.step(record)
        if row is not None:
            self.add_row(row)

    def request(self, record: RequestRecord) -> None:
        self._files.request(record)
        self._intervals.request(record)
        self.sample.add(record)

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._files.finish(summary)
        row = self._intervals.rest()
        if row is not None:
            self.add_row(row)
        self.conclude(summary)
