"""`engine.profile=true`: what every moment of the engine's thread, and of the executor's, was spent on.

engine    | schedule | dispatch |     wait     | commit | tell | output | schedule | ...
executor  | batch | attention |     forward     | logits | sample |  batch | ...

Both tracks are cut without gaps, so that nothing is left out: on the engine's, what passes between two calls
of `Engine.step` is `output` (whoever drives the engine records and delivers), or `idle` if it had no work. A
phase of the engine costs nothing while the executor computes, and everything while that waits for it
(`quire.metrics.phases` tells the two apart).
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

from quire.engine.plan import StepPlan, StepResult

if TYPE_CHECKING:
    import numpy as np

IDLE = "idle"
"""The engine has nothing to do."""
WAIT = "wait"
"""The engine waits for the executor."""


class Track:
    """Phases of one thread in the order of time: name, turn of its loop, start and end in seconds."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.turns = array("q")
        self.starts = array("d")
        self.ends = array("d")

    def add(self, name: str, turn: int, start: float, end: float) -> None:
        self.names.append(name)
        self.turns.append(turn)
        self.starts.append(start)
        self.ends.append(end)

    def spans(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Turns, starts and ends of one phase."""
        import numpy as np

        chosen = np.array([each == name for each in self.names], dtype=bool)
        turns, starts, ends = np.array(self.turns), np.array(self.starts), np.array(self.ends)
        return turns[chosen], starts[chosen], ends[chosen]


class Unprofiled:
    """`engine.profile=false`: what a profile is told goes nowhere."""

    def lap(self, name: str) -> None:
        pass

    def turn(self, name: str) -> None:
        pass

    def add_step(self, plan: StepPlan, result: StepResult) -> None:
        pass


class Profile:
    """Both tracks of a run, some 33 bytes a phase. `now` is the clock that the executor's results are on."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self.reset()

    def reset(self) -> None:
        """Begin anew: what came before is not part of it. Steps under way still bring all of theirs."""
        self.engine = Track()
        self.executor = Track()
        self.steps: list[tuple[int, int, int]] = []
        """Of each step that the executor told the time of: index, tokens, sequences."""
        self._turn = 0
        self._last = self._now()

    def lap(self, name: str) -> None:
        """What passed on the engine's thread since the lap before was `name`."""
        now = self._now()
        self.engine.add(name, self._turn, self._last, now)
        self._last = now

    def turn(self, name: str) -> None:
        """The same, and another turn of the loop begins."""
        self.lap(name)
        self._turn += 1

    def add_step(self, plan: StepPlan, result: StepResult) -> None:
        """A step has come back. One that does not say when it started is left out."""
        if result.start is None:
            return
        self.steps.append((plan.index, plan.num_tokens, len(plan.rows)))
        end = result.start
        for name, seconds in result.phases.items():
            start, end = end, end + seconds
            self.executor.add(name, plan.index, start, end)
