"""What every tracker must do, as tests that a tracker's own tests inherit."""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import statistics
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from quire.engine.config import EngineConfig
from quire.engine.records import RequestRecord, StepRecord
from quire.engine.request import Request, SamplingParams
from quire.errors import UserError
from quire.interfaces.tracker import Tracker
from quire.testing.in_order import InOrder
from quire.testing.layouts import make_layout
from quire.testing.rehearsal import Rehearsal

_NAMES = ("plain", "ä/ö", 'with, a "comma"', "two\nlines", "", "half a pair: \ud800", "../../elsewhere")
_DESCRIPTION: dict[str, Any] = {
    "config": {"seed": 1, "workload": {"rate": None, "tenants": {"ä": [0.5, "x"]}}},
    "choices": {"scheduler": "fcfs", "task": "bench"},
    "overrides": ["workload.rate=4"],
}
_SUMMARY: dict[str, Any] = {
    "interrupted": False,
    "error": None,
    "steps": 40,
    "ttft_s": {"p50": 0.25, "p99": 0.5, "max": None},
    "workload": {"left_out": [1, 2]},
}
_STEP_SECONDS = 0.5e-3


class TrackerSuite(ABC):
    """Inherit, and say how to make one:

    class TestMine(TrackerSuite):
        def make(self) -> Tracker:
            return Mine(config=MineConfig())
    """

    @abstractmethod
    def make(self) -> Tracker:
        """A new tracker that has recorded nothing."""

    def recorded(self, directory: Path) -> Sequence[str] | None:
        """Ids of the requests that a run's directory has, as they ended; None if it keeps no single ones.

        Also called while a run goes on, and for one that was never finished.
        """
        del directory
        return None

    def test_a_run_is_recorded_in_its_directory_and_nowhere_else(self) -> None:
        with _place() as directory:
            assert not directory.exists(), "the tracker makes it"
            tracker = self._begun(directory)
            self._feed(tracker)
            tracker.finish(_SUMMARY)
            assert any(path.is_file() for path in directory.rglob("*")), "nothing was written"
            self._check_recorded(directory, self._requests)

    def test_a_run_in_which_nothing_happened(self) -> None:
        with _place() as directory:
            self._begun(directory).finish({"interrupted": True, "error": "UserError: no requests"})
            self._check_recorded(directory, [])

    def test_a_run_that_goes_on_or_was_never_finished_can_be_read(self) -> None:
        """What is there is the beginning of what there was."""
        names = [_readable(record.request_id) for record in self._requests]
        with _place() as directory:
            tracker = self._begun(directory)
            for count, record in enumerate(self._requests, 1):
                tracker.request(record)
                found = self._recorded(directory)
                assert found is None or found == names[: len(found)], f"of {names[:count]}: {found}"
            tracker.finish(_SUMMARY)

    def test_runs_after_one_another_are_recorded_apart(self) -> None:
        """As the cells of a sweep are, in one process."""
        with _place() as directory:
            cells = [(directory / str(cell), self._requests[cell::2]) for cell in (0, 1)]
            for cell, requests in cells:
                tracker = self._begun(cell)
                for record in requests:
                    tracker.request(record)
                tracker.finish(_SUMMARY)
            for cell, requests in cells:
                self._check_recorded(cell, requests)

    def test_records_stay_as_they_are(self) -> None:
        before = copy.deepcopy((self._steps, self._requests, _DESCRIPTION, _SUMMARY))
        with _place() as directory:
            tracker = self._begun(directory)
            self._feed(tracker)
            tracker.finish(_SUMMARY)
        assert (self._steps, self._requests, _DESCRIPTION, _SUMMARY) == before, "it changed a record"

    def test_a_step_takes_microseconds(self) -> None:
        """Half a millisecond would be the end of the engine's speed; the median of 40 means decides."""
        with _place() as directory:
            tracker, means = self._begun(directory), list[float]()
            for batch in range(40):
                record, began = self._steps[0], time.perf_counter()
                for index in range(25):
                    end = 0.01 * (25 * batch + index + 1)
                    tracker.step(replace(record, index=25 * batch + index, start=end - 0.01, end=end))
                means.append((time.perf_counter() - began) / 25)
            tracker.finish(_SUMMARY)
        mean = statistics.median(means)
        assert mean < _STEP_SECONDS, f"a step takes {mean * 1e6:.0f} us to record"

    def test_numbers_of_numpy_are_numbers(self) -> None:
        """A foreign executor may measure in them."""
        import numpy as np

        with _place() as directory:
            tracker = self._begun(directory)
            for step in self._steps:
                tracker.step(
                    replace(
                        step,
                        seconds=np.float64(0.25),
                        num_tokens=np.int64(3),  # pyright: ignore[reportArgumentType]
                        phases={"forward": np.float32(0.125)},  # pyright: ignore[reportArgumentType]
                    )
                )
            tracker.finish(_SUMMARY)

    def test_a_directory_that_cannot_be_had_is_refused_at_the_start(self) -> None:
        with _place() as directory:
            directory.parent.mkdir()
            directory.write_text("a file is in its place")
            with pytest.raises(UserError):
                self.make().start(directory / "run", _DESCRIPTION)

    def test_a_run_goes_on_when_its_directory_is_lost(self) -> None:
        """Whatever happens to a record, nothing is raised into the run."""
        with _place() as directory:
            tracker = self._begun(directory)
            self._feed(tracker)
            shutil.rmtree(directory)
            for _ in range(3):
                self._feed(tracker)
            tracker.finish(_SUMMARY)

    def _begun(self, directory: Path) -> Tracker:
        tracker = self.make()
        tracker.start(directory, _DESCRIPTION)
        return tracker

    def _feed(self, tracker: Tracker) -> None:
        for step in self._steps:
            tracker.step(step)
        for request in self._requests:
            tracker.request(request)

    def _check_recorded(self, directory: Path, requests: Sequence[RequestRecord]) -> None:
        found, expected = self._recorded(directory), [_readable(record.request_id) for record in requests]
        assert found is None or found == expected, f"recorded are {found}, there were {expected}"

    def _recorded(self, directory: Path) -> list[str] | None:
        found = self.recorded(directory)
        return None if found is None else list(map(_readable, found))

    @property
    def _steps(self) -> list[StepRecord]:
        return self._records[0]

    @property
    def _requests(self) -> list[RequestRecord]:
        return self._records[1]

    @cached_property
    def _records(self) -> tuple[list[StepRecord], list[RequestRecord]]:
        """Of a run on a virtual clock with little memory, in which one request was called off."""
        rehearsal = Rehearsal(
            scheduler=InOrder(),
            layout=make_layout(8, block_size=4),
            config=EngineConfig(max_sequences=3, max_step_tokens=16),
        )
        engine, requests = rehearsal.engine, list[RequestRecord]()
        sampling = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
        for index, name in enumerate(_NAMES):
            prompt = tuple(range(1 + index))
            engine.add(Request(id=name, prompt_token_ids=prompt, sampling=sampling, arrival_time=0.0))
        engine.abort(_NAMES[3])
        while engine.has_work:
            requests += [output.record for output in engine.step() if output.record is not None]
        return engine.take_records(), requests


def _readable(name: str) -> str:
    """What no text can hold, half a surrogate pair, may be recorded as its escape."""
    return name.encode(errors="backslashreplace").decode()


@contextlib.contextmanager
def _place() -> Generator[Path]:
    """A directory for a run, not made yet. Whoever else is near, the current directory and the user's home,
    has to be found untouched.
    """
    with tempfile.TemporaryDirectory() as place:
        outside = Path(place, "outside")
        outside.mkdir()
        with contextlib.chdir(outside), patch.dict(os.environ, HOME=str(outside)):
            yield Path(place, "runs", "run")
        left = [str(path.relative_to(place)) for path in outside.rglob("*")]
        assert not left, f"it wrote outside of the run's directory: {left}"
        assert set(os.listdir(place)) <= {"outside", "runs"}, f"it wrote beside it: {os.listdir(place)}"
        runs = Path(place, "runs")
        assert not runs.exists() or set(os.listdir(runs)) <= {"run"}, (
            f"it wrote beside it: {os.listdir(runs)}"
        )
