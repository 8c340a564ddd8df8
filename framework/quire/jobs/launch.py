"""How a run was started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """The command, and what is particular to this run where the command started a sweep."""

    command: tuple[str, ...]
    """What was typed, as sys.argv has it."""
    overrides: tuple[str, ...] = ()
    """Of this run: `python run.py OVERRIDES` runs it again."""
    sweep: Path | None = None
    """Directory of the sweep that the run is a cell of."""
