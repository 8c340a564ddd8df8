"""What others used of the machine while something was measured."""

from __future__ import annotations

import os
import time
from pathlib import Path

_BUSY = (0, 1, 2, 5, 6, 7)
"""Of the numbers in /proc/stat: user, nice, system, irq, softirq, steal."""


class Others:
    """Made when the measurement begins."""

    def __init__(self) -> None:
        self._busy, self._began = _busy_seconds(), time.perf_counter()

    def share(self, own_seconds: float) -> float:
        """The part of all CPUs' time since then that was used beyond `own_seconds`; 0 to 1."""
        seconds = (time.perf_counter() - self._began) * (os.cpu_count() or 1)
        return max(0.0, (_busy_seconds() - self._busy - own_seconds) / seconds)


def _busy_seconds() -> float:
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    return sum(int(fields[index]) for index in _BUSY) / os.sysconf("SC_CLK_TCK")
