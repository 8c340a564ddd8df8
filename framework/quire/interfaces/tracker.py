"""A tracker records a run: to files, to W&B, to TensorBoard."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quire.engine.records import RequestRecord, StepRecord


class Tracker(ABC):
    """Receives everything a run has to say. `finish` is called exactly once, also after an interrupt."""

    Config: type[Any]

    @abstractmethod
    def start(self, directory: Path, description: Mapping[str, Any]) -> None:
        """The run begins; its files go to `directory`. `description` is plain data: the resolved config,
        choices, plugin versions, commit and machine.
        """

    @abstractmethod
    def step(self, record: StepRecord) -> None:
        """A step was committed. Called once a step: must cost microseconds."""

    @abstractmethod
    def request(self, record: RequestRecord) -> None:
        """A sample of a request ended."""

    @abstractmethod
    def finish(self, summary: Mapping[str, Any]) -> None:
        """The run is over; `summary` is plain data and says whether it was cut short."""
