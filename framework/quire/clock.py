"""Time is a service of the core: no policy reads the wall clock."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod


class Clock(ABC):
    """Seconds since the start of the run."""

    @abstractmethod
    def now(self) -> float:
        """Seconds since the start of the run; never decreases."""

    @abstractmethod
    def sleep_until(self, when: float) -> None:
        """Return when `now()` is at least `when`."""


class WallClock(Clock):
    """Real time, counted from construction."""

    def __init__(self) -> None:
        self._origin = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self._origin

    def sleep_until(self, when: float) -> None:
        while (left := when - self.now()) > 0:
            time.sleep(left)


class VirtualClock(Clock):
    """Time that moves only when told to: a simulated executor advances it by the cost of each step."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds` (not negative)."""
        assert seconds >= 0, f"time cannot go back by {seconds} s"
        self._now += seconds

    def sleep_until(self, when: float) -> None:
        self._now = max(self._now, when)
