"""What every section gets: its time, the sizes to measure, and where its rows go."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(kw_only=True)
class Box:
    """One section's share of the run. A row is written as soon as it is known: what ends early keeps it.

    `dry` tries every path of the script on a CPU, in sizes that say nothing about speed.
    """

    section: str
    device: str
    dry: bool
    seconds: float
    rows_path: Path
    model: Path
    """Where the checkpoint with random weights lies, or is to lie."""
    _started: float = field(default_factory=time.perf_counter)

    def restart(self) -> None:
        """The section's time begins now: what its process did before is not its own."""
        self._started = time.perf_counter()

    @property
    def left(self) -> float:
        """Seconds that remain of the section's time; negative once it is over."""
        return self.seconds - (time.perf_counter() - self._started)

    def has_time(self, what: str, *, seconds: float = 0.0) -> bool:
        """Whether `what`, which takes about so long, can still be measured; if not, the report says so."""
        if self.left > seconds:
            return True
        self.row(what=what, skipped="the section's time was over")
        return False

    def row(self, **values: Any) -> None:
        """Report one row: `what` was measured, and the values."""
        line = json.dumps({"section": self.section, **values})
        with self.rows_path.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)
