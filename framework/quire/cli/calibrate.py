"""`quire calibrate RUN_DIR... -o model.json`: what steps cost, learned from the steps of recorded runs."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quire.engine.shape import StepShape
from quire.errors import UserError
from quire.interfaces.cost_model import CostModel
from quire.jobs.calibration import durations, read_steps, shape_of, write_calibration
from quire.registry import load_registry

_HELD_OUT = 5
"""Every fifth block of steps is kept from the model that is tested; the one written learns from all."""
_BLOCK = 20
"""Steps in such a block: neighbours are alike, so single steps would test memory rather than foresight."""


def main(arguments: Sequence[str]) -> None:
    """Fit, test on held-out steps, write. Raises UserError if a run cannot be read or says too little."""
    parser = argparse.ArgumentParser(
        prog="quire calibrate",
        description="Learn what a step costs from runs recorded with tracker=jsonl, for executor=simulated.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="directory of a recorded run")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="what is written")
    parser.add_argument(
        "--cost-model", default="linear", metavar="NAME", help="linear (default), monotone, ..."
    )
    options = parser.parse_args(arguments)
    registry = load_registry()
    cost_model: type[CostModel] = registry.get("cost_model", options.cost_model)
    config = cost_model.Config()
    shapes, seconds = _steps(options.runs)
    tested = [i for i in range(len(shapes)) if i // _BLOCK % _HELD_OUT == _HELD_OUT - 1]
    known = sorted(set(range(len(shapes))) - set(tested))
    trial = cost_model.fit(
        config=config, shapes=[shapes[i] for i in known], seconds=[seconds[i] for i in known]
    )
    errors = [abs(trial.seconds(shapes[i]) / seconds[i] - 1.0) for i in tested]
    mape = statistics.fmean(errors) if errors else None
    model = cost_model.fit(config=config, shapes=shapes, seconds=seconds)
    origin = {"steps": len(shapes), "held_out_mape": mape, "runs": [_origin(run) for run in options.runs]}
    write_calibration(
        options.output, cost_model=options.cost_model, parameters=model.parameters(), origin=origin
    )
    shown = "too few steps to test it" if mape is None else f"mean error {mape:.1%} on held-out steps"
    print(f"{options.cost_model}: {len(shapes)} steps, {shown}; written to {options.output}")


def _steps(runs: Sequence[Path]) -> tuple[list[StepShape], list[float]]:
    """Shape and duration of the steps of all runs."""
    shapes: list[StepShape] = []
    seconds: list[float] = []
    for run in runs:
        steps = read_steps(run)
        taken = durations(steps)
        if any(each <= 0 for each in taken):
            raise UserError(f"{run}: has steps that take no time; runs must be real")
        shapes += [shape_of(step) for step in steps]
        seconds += taken
    return shapes, seconds


def _origin(run: Path) -> dict[str, Any]:
    """What a run was of, where its config.json says so."""
    try:
        described = json.loads((run / "config.json").read_text(encoding="utf-8"))
        config = described["config"]
        return {key: config[key] for key in ("model", "device", "dtype")} | {
            "machine": described["machine"]["cpu"],
            "cores": described["machine"]["cores"],
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}
