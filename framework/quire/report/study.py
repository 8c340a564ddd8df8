"""Everything that a report says, computed once: runs, their windows, comparisons, capacities."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quire.errors import UserError
from quire.registry import near_miss
from quire.report.arms import Cell, arrange, refuse_incomparable
from quire.report.comparison import Comparison, compare
from quire.report.recorded import find_runs, read_run
from quire.report.window import UNSTABLE_RULE, Window, measured_window


@dataclass(frozen=True, kw_only=True)
class Study:
    """The runs below one directory, read and compared."""

    directory: Path
    cells: list[Cell]
    windows: dict[str, Window]
    """By the run's name; a run without a request has none."""
    comparisons: list[Comparison]
    capacities: list[dict[str, Any]]
    """What task=capacity found, as its capacity.json has it, with `arm`."""
    notes: list[str]
    warmup: float
    confidence: float

    @property
    def arms(self) -> list[str]:
        return list(dict.fromkeys(cell.arm for cell in self.cells))

    @property
    def conditions(self) -> list[str]:
        return list(dict.fromkeys(cell.condition for cell in self.cells))


def load_study(
    directory: Path,
    *,
    warmup: float = 0.1,
    confidence: float = 0.95,
    baseline: str | None = None,
    arm_keys: tuple[str, ...] = (),
) -> Study:
    """Read the runs below `directory` and compare each arm with `baseline` (None: the first), under every
    condition that both ran under. Raises UserError if they cannot be compared.
    """
    found, empty = find_runs(directory)
    runs = [read_run(path, name=str(path.relative_to(directory))) for path in found]
    for run in runs:
        if run.name == ".":
            run.name = run.directory.resolve().name
    cells = arrange(runs, arm_keys=arm_keys)
    refuse_incomparable(cells)
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    if baseline is not None and baseline not in arms:
        raise UserError(f"--baseline {baseline}: must be one of {', '.join(arms)}{near_miss(baseline, arms)}")
    baseline = baseline or arms[0]
    comparisons: list[Comparison] = []
    for condition in dict.fromkeys(cell.condition for cell in cells):
        alike = [cell for cell in cells if cell.condition == condition and cell.run.requests]
        _refuse_twice(alike)
        for arm in arms:
            if arm != baseline:
                result = compare(alike, baseline=baseline, arm=arm, warmup=warmup, confidence=confidence)
                comparisons += [] if result is None else [result]
    return Study(
        directory=directory,
        cells=cells,
        windows={run.name: measured_window(run.requests, warmup=warmup) for run in runs if run.requests},
        comparisons=comparisons,
        capacities=_capacities(directory),
        notes=_notes(cells, [str(path.relative_to(directory)) for path in empty]),
        warmup=warmup,
        confidence=confidence,
    )


def _refuse_twice(cells: list[Cell]) -> None:
    seen: dict[tuple[str, int], str] = {}
    for cell in cells:
        first = seen.setdefault((cell.arm, cell.run.seed), cell.run.name)
        if first != cell.run.name:
            raise UserError(
                f"{first} and {cell.run.name} are the same: {cell.arm}, seed {cell.run.seed}; report on a "
                "directory that has one of them"
            )


def _capacities(directory: Path) -> list[dict[str, Any]]:
    paths = sorted(directory.rglob("capacity.json"))
    return [
        json.loads(path.read_bytes()) | {"directory": str(path.parent.relative_to(directory))}
        for path in paths
    ]


def _notes(cells: list[Cell], empty: list[str]) -> list[str]:
    notes = [f"{cell.run.name}: {cell.run.cut}" for cell in cells if cell.run.cut is not None]
    notes += [f"{cell.run.name}: {note}" for cell in cells for note in cell.run.notes]
    notes += [f"{name}: left no record" for name in empty]
    for label, path in (
        ("commits", "distributions"),
        ("machines", "machine"),
        ("library versions", "libraries"),
    ):
        if len({repr(cell.run.description.get(path)) for cell in cells}) > 1:
            notes.append(f"the runs' {label} differ, see their config.json")
    notes.append(UNSTABLE_RULE)
    return notes
