"""A study: arms that serve the same requests, claims about them, results as JSON and a picture."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from experiments.shelf.lab.claims import Claim
from experiments.shelf.lab.figures import Panel, draw
from experiments.shelf.lab.loads import Load, dataset, everything_at_once
from experiments.shelf.lab.simulation import BASE, Dress, Outcome, simulate

from quire.jobs.provenance import commit_of, describe_machine

Measure = Callable[[Outcome], dict[str, float]]
"""The numbers that a study wants of a run; taken in the run's own process."""
Numbers = Mapping[str, Mapping[str, Sequence[float]]]
"""Arm -> number -> one value a seed."""


class Study:
    """Reads the command line, runs arms, collects claims; `finish` writes everything and gives the exit code.

    TRACES in the environment, or --traces, is the directory of the public traces; without it requests are
    drawn from their distributions.
    """

    def __init__(self, file: str, question: str, *, requests: int, seeds: int = 5) -> None:
        parser = argparse.ArgumentParser(description=question)
        parser.add_argument("--traces", type=Path, help="directory of the public traces (or $TRACES)")
        parser.add_argument("--requests", type=int, default=requests, help="of each seed and arm")
        parser.add_argument("--seeds", type=int, default=seeds)
        parser.add_argument("--output", type=Path, help="results go to the study's directory in this one")
        parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
        self._options = parser.parse_args()
        traces = self._options.traces or os.environ.get("TRACES")
        self._traces = Path(traces).absolute() if traces else None
        self._pool = None
        if self._options.jobs > 1:
            self._pool = ProcessPoolExecutor(self._options.jobs, mp_context=get_context("spawn"))
        self._question = question
        name = Path(file).parent.name
        self._output: Path = (self._options.output or Path(file).parents[1]) / name
        self._command = f"python -m experiments.shelf.{name}.measure"
        for option, usual in (("requests", requests), ("seeds", seeds)):
            if getattr(self._options, option) != usual:
                self._command += f" --{option} {getattr(self._options, option)}"
        self._commit = _commit()
        self._claims: list[Claim] = []
        self._panels: list[Panel] = []
        self._arms: dict[str, Any] = {}
        self._measured: dict[str, Any] = {}
        self._loads: dict[str, Any] = {}
        self.seeds = range(self._options.seeds)
        self.requests: int = self._options.requests

    def load(self, name: str, *, requests: int | None = None) -> Load:
        """Requests of a public trace."""
        return dataset(name, requests=requests or self.requests, traces=self._traces)

    def run(
        self,
        group: str,
        arms: Mapping[str, Sequence[str]],
        load: Load,
        measure: Measure,
        *,
        dress: Dress | None = None,
        base: Sequence[str] = BASE,
    ) -> Numbers:
        """Every arm on every seed's requests. `group` names them in the results."""
        cells = list(product(arms, self.seeds))
        runs = [([*arms[arm], *load.at(seed)], seed, measure, dress, base) for arm, seed in cells]
        if self._pool is None:
            taken = [_cell(*run) for run in runs]
        else:
            taken = [job.result() for job in [self._pool.submit(_cell, *run) for run in runs]]
        numbers: dict[str, dict[str, list[float]]] = {arm: {} for arm in arms}
        for (arm, _), found in zip(cells, taken, strict=True):
            for key, value in found.items():
                numbers[arm].setdefault(key, []).append(value)
        self._loads[group] = {
            "requests": load.requests,
            "from": load.source,
            "overrides": load.overrides,
            "rates": load.rates,
        }
        self._arms[group] = {arm: list(overrides) for arm, overrides in arms.items()}
        self._measured[group] = numbers
        return numbers

    def at_load(self, fraction: float, overrides: Sequence[str], load: Load) -> Load:
        """The same requests, arriving at that fraction of capacity: of what a second brings, under
        `overrides`, when all are there at once.
        """
        found = self.run(
            f"capacity for {fraction:g} of it",
            {"all at once": overrides},
            everything_at_once(load, self.seeds),
            _throughput,
        )
        rates = [fraction * each for each in found["all at once"]["requests_per_s"]]
        return load.with_rates(dict(zip(self.seeds, rates, strict=True)))

    def claim(
        self,
        what: str,
        values: Sequence[float],
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        control: bool = False,
    ) -> None:
        """What must hold of the mean of `values`, one a seed."""
        claim = Claim(what=what, values=values, at_least=at_least, at_most=at_most, control=control)
        print(claim, flush=True)
        self._claims.append(claim)

    def show(self, panel: Panel) -> None:
        """One more panel of the picture."""
        self._panels.append(panel)

    def finish(self) -> int:
        """Write results.json and results.png; 0 if every claim holds."""
        if self._pool is not None:
            self._pool.shutdown()
        self._output.mkdir(parents=True, exist_ok=True)
        results = {
            "question": self._question,
            "command": self._command,
            "commit": self._commit,
            "python": platform.python_version(),
            "machine": describe_machine(),
            "seeds": list(self.seeds),
            "claims": [claim.to_dict() for claim in self._claims],
            "loads": self._loads,
            "arms": self._arms,
            "measured": self._measured,
        }
        text = json.dumps(results, indent=2) + "\n"
        (self._output / "results.json").write_text(text, encoding="utf-8")
        draw(self._panels, self._output / "results.png")
        return 0 if all(claim.holds for claim in self._claims) else 1


@cache
def _commit() -> str | None:
    """As of the first study of this process: the results that it writes change the tree."""
    return commit_of(Path(__file__))


def _cell(
    overrides: Sequence[str], seed: int, measure: Measure, dress: Dress | None, base: Sequence[str]
) -> dict[str, float]:
    return measure(simulate(overrides, seed=seed, dress=dress, base=base))


def _throughput(outcome: Outcome) -> dict[str, float]:
    return {"requests_per_s": outcome.metrics["requests_per_s"]}
