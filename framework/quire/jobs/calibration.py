"""Calibration: what a cost model learned from real runs, as a file; and the durations that it learns from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from quire.engine.records import StepRecord
from quire.engine.shape import StepShape
from quire.errors import UserError
from quire.jobs.jsonl import numbered_lines

_SHAPE = tuple(field.name for field in dataclasses.fields(StepShape))


def shape_of(step: StepRecord) -> StepShape:
    """The shape of a recorded step."""
    return StepShape(**{name: getattr(step, name) for name in _SHAPE})


def read_steps(directory: Path) -> list[StepRecord]:
    """The steps of a recorded run. Raises UserError, naming file and line, if they cannot be read. A last
    line cut short, as a killed run leaves it, is left out.
    """
    path = directory / "steps.jsonl"
    return [StepRecord(**line) for line in _lines(path)]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    names = {field.name for field in dataclasses.fields(StepRecord)}
    needed = names - {"kv_tokens_used", "kv_tokens_reserved"}  # which costs do not hang on
    try:
        for number, raw in numbered_lines(path):
            if not raw.endswith(b"\n"):
                return
            try:
                line = json.loads(raw)
                given = set(line)
            except (ValueError, TypeError):
                raise UserError(f"{path}, line {number}: not a JSON object") from None
            if needed - given:
                raise UserError(
                    f"{path}, line {number}: {min(needed - given)} is missing; the run must be of this "
                    "version"
                )
            yield {name: line[name] for name in names & given}
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def durations(steps: Sequence[StepRecord]) -> list[float]:
    """What each step costs a run, in seconds: its time on the executor, and what the host adds to it that no
    other step hides. That is jittery, as threads wake late and catch up, so every step gets its mean.

        commit n - 1                     commit n          nothing to do         commit n + 1
             |---------- step n ------------|                  submit |-- step n + 1 --|
             |     host, executor n, host   |                         |     the same    |
    """
    if not steps:
        return []
    spans = [steps[0].end - steps[0].start]
    for before, step in pairwise(steps):
        busy = step.index == before.index + 1 and before.num_running + before.num_waiting > 0
        spans.append(step.end - (before.end if busy else max(before.end, step.start)))
    host = fmean(spans) - fmean(step.seconds for step in steps)
    return [step.seconds + host for step in steps]


def write_calibration(
    path: Path, *, cost_model: str, parameters: Mapping[str, Any], origin: Mapping[str, Any]
) -> None:
    """Write what `cost_model` learned; `origin` says from what, and how well."""
    content = {"cost_model": cost_model, **origin, "parameters": parameters}
    try:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def read_parameters(path: str | None, *, cost_model: str, names: Iterable[str]) -> Mapping[str, Any]:
    """The parameters in a calibration file; those called `names` are among them.

    Raises UserError if `path` is None, or no calibration of this cost model.
    """
    if path is None:
        raise UserError(
            "cost_model.path=null: must be a file that `quire calibrate RUN_DIR... "
            f"--cost-model {cost_model} -o FILE` made from real runs"
        )
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cost_model.path={path!r}: cannot be read: {error}") from None
    if not isinstance(content, dict) or content.get("cost_model") != cost_model:
        found = content.get("cost_model") if isinstance(content, dict) else None
        raise UserError(
            f"cost_model.path={path!r}: is a calibration of {found!r}; must be one of cost_model={cost_model}"
        )
    parameters: Any = content.get("parameters")
    if not isinstance(parameters, dict):
        raise UserError(f"cost_model.path={path!r}: parameters: must be an object")
    missing = [name for name in names if name not in parameters]
    if missing:
        raise UserError(f"cost_model.path={path!r}: parameters.{missing[0]} is missing")
    return parameters
