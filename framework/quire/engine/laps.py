"""A watch whose hand never rests: every moment belongs to one phase."""

from __future__ import annotations

import time
from collections.abc import Callable


class Laps:
    """Cuts the time since `start` into phases, one after another, and sums them by name."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self.start = self.end = now()
        """In seconds on that clock: when the first lap began, and when the latest ended."""
        self.seconds: dict[str, float] = {}
        """By name, in the order in which the phases came."""

    def lap(self, name: str) -> None:
        """What passed since the lap before was `name`."""
        now = self._now()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.end
        self.end = now
