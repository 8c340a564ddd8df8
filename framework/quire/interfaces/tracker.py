"""A tracker records a run: to files, to W&B, to TensorBoard."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quire.engine.records import RequestRecord, StepRecord


class Tracker(ABC):
    """Receives everything a run has to say. `finish` is called exactly once, also after an interrupt.

    Where a run cannot be recorded, `start` raises UserError. Afterwards nothing is raised: that no more can
    be written, because a disk is full or a network is gone, is worth a warning and no run.
    """

    Config: type[Any]

    @abstractmethod
    def start(self, directory: Path, description: Mapping[str, Any]) -> None:
        """The run begins; its files go to `directory`, which may not be there yet. `description` is plain
        data: the resolved config, choices, plugin versions, commit and machine.
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
