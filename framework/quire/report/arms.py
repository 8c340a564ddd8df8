"""Which runs may be compared: arms (the policies), conditions (everything else), seeds.

A *condition* is what an arm is tried under: workload, model, engine, executor, objectives. Arms are compared
within a condition only; runs whose conditions all differ are refused, and the difference named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quire.errors import UserError
from quire.report.recorded import RecordedRun

POLICIES = (
    "scheduler",
    "victim",
    "predictor",
    "allocator",
    "eviction",
    "attention",
    "ops",
    "quantization",
    "sampler",
)
"""Groups whose plugin and options make an arm."""
_NEITHER = ("seed", "task", "tracker", "server", "embedding")
"""Keys that change nothing of what is measured, or (the seed) are what runs are paired by."""


@dataclass(kw_only=True)
class Cell:
    """One run, with the arm and the condition that it belongs to."""

    run: RecordedRun
    arm: str
    condition: str
    """Empty where all runs share one."""
    values: dict[str, Any]
    """Its configuration, flat."""


def arrange(runs: Sequence[RecordedRun], *, arm_keys: Iterable[str] = ()) -> list[Cell]:
    """Give every run its arm and condition. `arm_keys` are further keys (or groups) that make an arm."""
    flat = [_flat(run) for run in runs]
    arms_by = (*POLICIES, *arm_keys)
    varying = [key for key in _keys(flat) if len({repr(each.get(key)) for each in flat}) > 1]
    cells: list[Cell] = []
    for run, values in zip(runs, flat, strict=True):
        arm = _label(values, [key for key in varying if _within(key, arms_by)], flat)
        condition = _label(values, [key for key in varying if not _within(key, arms_by)], flat, full=True)
        cells.append(
            Cell(
                run=run,
                arm=arm or run.description["choices"]["scheduler"],
                condition=condition,
                values=values,
            )
        )
    return cells


def refuse_incomparable(cells: Sequence[Cell]) -> None:
    """Raise UserError if there are several arms, and no condition under which two of them ran."""
    arms: dict[str, set[str]] = {}
    for cell in cells:
        arms.setdefault(cell.condition, set()).add(cell.arm)
    if len({cell.arm for cell in cells}) < 2 or any(len(found) > 1 for found in arms.values()):
        return
    first = cells[0]
    other = next(cell for cell in cells if cell.arm != first.arm)
    differing = [
        f"{key}={first.values.get(key)} and {other.values.get(key)}"
        for key in _keys([first.values, other.values])
        if first.values.get(key) != other.values.get(key) and not _within(key, POLICIES)
    ]
    raise UserError(
        f"{first.run.name} ({first.arm}) and {other.run.name} ({other.arm}) cannot be compared: they differ "
        f"in {'; '.join(differing)}. Run them alike, or say --arm KEY if such a key is what is compared"
    )


def refuse_unpaired(one: RecordedRun, other: RecordedRun) -> None:
    """Raise UserError if requests of two runs that share an id are not the same request."""
    mine = {(each.request_id, each.sample): each for each in one.requests}
    for each in other.requests:
        same = mine.get((each.request_id, each.sample))
        if same is not None and same.num_prompt_tokens != each.num_prompt_tokens:
            raise UserError(
                f"{one.name} and {other.name} cannot be compared: request {each.request_id!r} has "
                f"{same.num_prompt_tokens} prompt tokens in one and {each.num_prompt_tokens} in the other"
            )


def _flat(run: RecordedRun) -> dict[str, Any]:
    """'scheduler' is the plugin's name, 'scheduler.chunk' its option; so for every group and section."""
    flat: dict[str, Any] = {}
    for key, value in run.config.items():
        if key in _NEITHER:
            continue
        flat.update(_leaves(key, value))
        if key in run.description["choices"]:
            flat[key] = run.description["choices"][key]
    return flat


def _leaves(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        name: leaf for key, each in value.items() for name, leaf in _leaves(f"{prefix}.{key}", each).items()
    }


def _keys(flat: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for each in flat for key in each))


def _within(key: str, names: Iterable[str]) -> bool:
    return any(key == name or key.startswith(name + ".") for name in names)


def _label(
    values: Mapping[str, Any],
    varying: Sequence[str],
    flat: Sequence[Mapping[str, Any]],
    *,
    full: bool = False,
) -> str:
    """What is particular to a run: its plugins, then the options in which runs of these plugins differ."""
    words: list[str] = []
    for key in varying:
        group = key.partition(".")[0]
        if key == group and not full:
            words.append(_shown(values[key]))
        elif key in values:
            alike = [each for each in flat if each.get(group) == values.get(group)]
            if len({repr(each.get(key)) for each in alike}) > 1 or key == group:
                words.append(f"{key if full else key.partition('.')[2]}={_shown(values[key])}")
    return " ".join(words)


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
