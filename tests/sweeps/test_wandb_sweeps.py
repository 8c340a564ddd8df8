"""The example sweeps: W&B's own template expansion must give command lines that quire composes."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from quire.config.compose import compose
from quire.metrics.definitions import METRICS

SWEEPS = sorted((Path(__file__).parents[2] / "experiments" / "sweeps").glob("*.yaml"))


def command_line(sweep: dict, chosen: dict) -> list[str]:
    """What an agent would run, as it builds it (`wandb.agents.pyagent`)."""
    words = create_sweep_command(sweep["command"])
    arguments = create_sweep_command_args({"args": {key: {"value": value} for key, value in chosen.items()}})
    line: list[str] = []
    for word in words:
        if word == "${program}":
            line.append(sweep["program"])
        elif word == "${env}":
            line.append("/usr/bin/env")
        elif word == "${args_no_hyphens}":
            line += arguments["args_no_hyphens"]
        else:
            assert "$" not in word, word
            line.append(word)
    return line


def values_of(parameter: dict) -> list:
    """All of them, or the ends of a range."""
    return parameter["values"] if "values" in parameter else [parameter["min"], parameter["max"]]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_command_of_a_sweep_composes(path):
    sweep = yaml.safe_load(path.read_text())
    names = list(sweep["parameters"])
    lines = [
        command_line(sweep, dict(zip(names, values, strict=True)))
        for values in itertools.product(*(values_of(each) for each in sweep["parameters"].values()))
    ]
    for line in (lines[0], lines[-1]):
        assert line[:3] == ["/usr/bin/env", "python", "run.py"]
        overrides = line[line.index("run.py") + 1 :]
        config = compose(overrides)
        assert (config.tracker.mode.value, config.tracker.project) == ("online", "quire")
        assert config.workload.requests == 200
    assert len({tuple(line) for line in lines}) == len(lines)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_optimises_what_a_summary_has(path):
    name, _, part = yaml.safe_load(path.read_text())["metric"]["name"].partition("/")
    assert name in METRICS
    assert part in ("", "mean", "p50", "p90", "p99")


def test_there_are_a_grid_and_a_bayesian_sweep():
    assert {yaml.safe_load(path.read_text())["method"] for path in SWEEPS} == {"grid", "bayes"}
