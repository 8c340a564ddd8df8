"""The record of a run for TensorBoard, beside the files of `tracker=jsonl`, which remain the record."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.engine.records import StepRecord
from quire.errors import MissingCapability, UserError
from quire_plugins.trackers.flat import flat
from quire_plugins.trackers.request_sample import LATENCIES
from quire_plugins.trackers.series import SeriesConfig, SeriesTracker

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

_logger = logging.getLogger(__name__)


@dataclass
class TensorboardConfig(SeriesConfig):
    """Options of `tracker=tensorboard`: those of `tracker=jsonl`, and these."""

    histogram_rows: int = 10_000
    """Samples of requests in the histograms at most; of more, a random part. 0: no histograms."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.histogram_rows < 0:
            raise UserError(f"tracker.histogram_rows={self.histogram_rows}: must be at least 0")


class TensorboardTracker(SeriesTracker):
    """`tensorboard --logdir outputs` (or multirun) shows a time series of one point an interval, histograms
    of latencies, the description as text, and under HParams the choices and overrides beside the summary,
    whose keys are joined by slashes (ttft_s/p99).

    A point's step is the engine's, its wall time runs with the engine's clock. If no more can be written, one
    warning says so and the run goes on.
    """

    Config = TensorboardConfig

    def __init__(self, *, config: TensorboardConfig) -> None:
        if find_spec("tensorboard") is None:
            raise MissingCapability(
                "tracker=tensorboard: the package is not installed; pip install 'quire[tensorboard]'"
            )
        super().__init__(config=config, sample_rows=config.histogram_rows)
        self._last_step = 0
        """The last that was taken."""
        self._writer: SummaryWriter | None = None

    def open(self, directory: Path, description: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self._description = description
        self._started = time.time()
        self._writer = SummaryWriter(str(directory / "tensorboard"), flush_secs=10)
        text = json.dumps(description, indent=2, ensure_ascii=False)
        self._write(lambda writer: writer.add_text("description", f"```json\n{text}\n```"))

    def step(self, record: StepRecord) -> None:
        super().step(record)
        self._last_step = record.index

    def add_row(self, row: Mapping[str, float]) -> None:
        at = self._started + row["time_s"]
        points = {f"serving/{name}": value for name, value in row.items() if name != "time_s"}
        self._write(lambda writer: self._add_scalars(writer, points, at))

    def conclude(self, summary: Mapping[str, Any]) -> None:
        self._write(lambda writer: self._add_summary(writer, summary))
        self._write(lambda writer: writer.close())

    def _add_summary(self, writer: SummaryWriter, summary: Mapping[str, Any]) -> None:
        for name in LATENCIES:
            if values := self.sample.completed(name):
                writer.add_histogram(f"requests/{name}", _array(values), self._last_step)
        points = {
            f"summary/{name}": value
            for name, value in flat(summary).items()
            if isinstance(value, int | float)
        }
        self._add_scalars(writer, points)
        self._add_hyperparameters(writer, list(points))

    def _add_scalars(
        self, writer: SummaryWriter, points: Mapping[str, float], at: float | None = None
    ) -> None:
        for name, value in points.items():
            writer.add_scalar(name, value, self._last_step, walltime=at)

    def _add_hyperparameters(self, writer: SummaryWriter, metrics: list[str]) -> None:
        """In the run's own file: `SummaryWriter.add_hparams` would make a second run of them."""
        from torch.utils.tensorboard.summary import hparams

        chosen = dict(self._description.get("choices", {}))
        chosen |= dict(override.split("=", 1) for override in self._description.get("overrides", ()))
        for summary in hparams(chosen, dict.fromkeys(metrics, 0.0)):
            writer.file_writer.add_summary(summary)

    def _write(self, action: Callable[[SummaryWriter], object]) -> None:
        """Write something. If that fails (the disk is full), warn once, and write nothing from then on."""
        if self._writer is None:
            return
        try:
            action(self._writer)
        except OSError as error:
            _logger.warning("%s ends early, the run goes on: %s", self._writer.log_dir, error.strerror)
            self._writer = None


def _array(values: list[float]) -> Any:
    import numpy as np

    return np.array(values)
