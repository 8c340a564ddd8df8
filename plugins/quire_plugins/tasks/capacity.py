"""Capacity: the highest rate at which a service holds its objectives, by bisection, seed by seed."""

from __future__ import annotations

import dataclasses
import math
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from quire.config.checks import check_above_zero
from quire.errors import UserError
from quire.interfaces.task import Task
from quire_plugins.tasks.capacity_search import Bracket, Probe, search
from quire_plugins.tasks.shortfall import Shortfall

if TYPE_CHECKING:
    from quire.engine.records import RequestRecord
    from quire.run import Run


_SET_BY_SEARCH = {"workload.rate": "task.start", "workload.requests": "task.seconds"}
"""What a probe is given whatever the user says, and where a user has a say in it."""
_PROBES = 8
"""That a search takes, more or less: the first one more, the others, which begin nearby, less."""


@dataclass
class CapacityConfig:
    """Options of `task=capacity`."""

    start: float = 1.0
    """Requests a second of the first probe."""
    lowest: float = 0.01
    """Below this rate the search gives up."""
    highest: float = 10000.0
    """Above this one too."""
    precision: float = 0.05
    """The search ends when the rate that fails is at most this fraction above the one that holds."""
    seconds: float = 60.0
    """Length of a probe: a workload with `requests` gets as many as arrive in it, any other its own."""
    seeds: int = 3
    """Searches, each with arrivals of its own: seed, seed + 1, ..."""
    retries: int = 1
    """A probe that fails is repeated so often, in case the machine was disturbed; in virtual time never."""

    def __post_init__(self) -> None:
        check_above_zero("task", self, "start", "lowest", "highest", "precision", "seconds")
        if not self.lowest <= self.start <= self.highest:
            raise UserError(f"task.start={self.start}: must be from task.lowest to task.highest")
        if self.seeds < 1:
            raise UserError(f"task.seeds={self.seeds}: must be at least 1")
        if self.retries < 0:
            raise UserError(f"task.retries={self.retries}: must be at least 0")


class CapacityTask(Task):
    """Finds the highest rate at which every request ends, the queue does not grow, and `slo.*` holds.

    Each probe is a run of its own, with a fresh engine and cold caches, recorded below the run's directory;
    one that is sure to fail ends early. What was found goes to capacity.json. `quire report` reads both.
    """

    Config = CapacityConfig

    def __init__(self, *, config: CapacityConfig) -> None:
        self._config = config

    def run(self, run: Run) -> None:
        config = self._config
        if not hasattr(run.config.workload, "rate"):
            name = run.registry.name_of("workload", run.config.workload)
            raise UserError(f"workload={name}: has no rate to search; must be one with workload.rate")
        if not run.config.slo.for_runs:
            raise UserError(
                "slo: no objective of a run is given; at least one is needed, such as slo.ttft_p99=1.0"
            )
        _refuse_what_probes_set(run)
        run.console.print(self._plan(run), markup=False, soft_wrap=True)
        brackets: list[Bracket] = []
        start, factor = config.start, 2.0
        for seed in range(run.config.seed, run.config.seed + config.seeds):

            def holds(rate: float, seed: int = seed) -> Probe:
                return self._probe(run, rate=rate, seed=seed)

            found = search(
                holds,
                start=start,
                factor=factor,
                lowest=config.lowest,
                highest=config.highest,
                precision=config.precision,
            )
            brackets.append(found)
            if found.low is not None:
                start, factor = found.low, 1.25  # other seeds are expected nearby
        self._conclude(run, brackets)

    def _plan(self, run: Run) -> str:
        """What is about to happen, and how long that may take."""
        config = self._config
        objectives = ", ".join(f"{key}={bound:g}" for key, bound in run.config.slo.for_runs.items())
        searches = f"{config.seeds} search{'es' if config.seeds > 1 else ''} (task.seeds)"
        told = f"searching for the highest rate that holds {objectives}: {searches} of about {_PROBES} probes"
        if run.is_virtual or not hasattr(run.config.workload, "requests"):
            return told
        minutes = math.ceil(config.seeds * _PROBES * config.seconds / 60)
        return f"{told} of {config.seconds:g} s (task.seconds), or about {minutes} min"

    def _probe(self, run: Run, *, rate: float, seed: int) -> Probe:
        attempts = 1 if run.is_virtual else 1 + self._config.retries
        for attempt in range(attempts):
            probe = self._serve(run, rate=rate, seed=seed, attempt=attempt)
            verdict = "holds" if probe.holds else "fails: " + "; ".join(probe.misses)
            asked = f"seed {seed}, {rate:.4g} requests/s, {probe.seconds:.0f} s"
            run.console.print(f"{asked}: {verdict}", markup=False, soft_wrap=True)
            if probe.holds:
                break
        return probe

    def _serve(self, run: Run, *, rate: float, seed: int, attempt: int) -> Probe:
        from quire.jobs.console import ServingProgress
        from quire.jobs.feed import serve
        from quire.jobs.recording import Recording
        from quire.jobs.warm_up import warm_up
        from quire.report.window import measured_window
        from quire.run import Run

        workload_config = dataclasses.replace(run.config.workload, **self._load(run, rate))
        name = f"seed{seed}-rate{rate:.6g}" + (f"-again{attempt}" if attempt else "")
        probe = Run(
            config=dataclasses.replace(run.config, seed=seed, workload=workload_config),
            registry=run.registry,
            directory=run.directory / name,
        )
        workload = probe.workload()
        shortfall = Shortfall(slo=run.config.slo, requests=len(workload))
        records: list[RequestRecord] = []
        with closing(probe.engine(with_text=workload.uses_text)) as engine:
            requests = probe.requests(workload, engine)
            first = next(requests, None)
            if first is None:
                raise UserError(f"workload: has no request at {rate:.4g} requests/s")
            warm_up(engine, tenant=first.tenant)
            recording = Recording(run=probe, engine=engine)
            label = f"seed {seed}, {rate:.4g} requests/s"
            with (
                recording,
                ServingProgress(run.console, engine=engine, total=len(workload), label=label) as progress,
            ):
                follow = workload.on_end if workload.reacts else None
                for outputs in serve(engine, chain((first,), requests), follow=follow, whole=True):
                    recording.take(outputs)
                    ended = [each.record for each in outputs if each.record is not None]
                    records += ended
                    progress.step(done=len(records))
                    if any(shortfall.add(record) for record in ended) and len(records) < len(workload):
                        recording.extra["ended_early"] = "it was sure to miss an objective"
                        break
        misses = list(run.config.slo.misses(recording.summary))
        lost = sum(each.finish_reason in ("error", "abort") for each in records)
        if lost:
            misses.append(f"{lost} of {len(records)} requests did not complete")
        if measured_window(records, warmup=0.1).unstable:
            misses.append("the queue grows")
        seconds = recording.summary["duration_s"]
        return Probe(rate=rate, seed=seed, misses=misses, directory=name, seconds=seconds)

    def _load(self, run: Run, rate: float) -> dict[str, Any]:
        """The options of the workload that make it a probe."""
        if not hasattr(run.config.workload, "requests"):
            return {"rate": rate}
        return {"rate": rate, "requests": max(1, round(rate * self._config.seconds))}

    def _conclude(self, run: Run, brackets: list[Bracket]) -> None:
        from statistics import median

        from quire.jobs.json_file import write_json

        held = [each.low for each in brackets if each.low is not None]
        failed = [each.high for each in brackets if each.high is not None]
        capacity = median(held) if len(held) == len(brackets) else None
        result = {
            "arm": run.registry.name_of("scheduler", run.config.scheduler),
            "capacity": capacity,
            "low": min(held) if len(held) == len(brackets) else None,
            "high": max(failed) if len(failed) == len(brackets) else None,
            "precision": self._config.precision,
            "objectives": run.config.slo.for_runs,
            "seeds": [
                {
                    "seed": run.config.seed + place,
                    "low": each.low,
                    "high": each.high,
                    "probes": [dataclasses.asdict(probe) for probe in each.probes],
                }
                for place, each in enumerate(brackets)
            ],
        }
        run.directory.mkdir(parents=True, exist_ok=True)
        write_json(run.directory / "capacity.json", result)
        run.console.print(describe(result), markup=False, soft_wrap=True)
        run.console.print(f"results are in {run.directory}", markup=False, soft_wrap=True)


def _refuse_what_probes_set(run: Run) -> None:
    """Raise UserError for an option that was given, and would have no effect."""
    for override in run.launch.overrides:
        key = override.lstrip("+").partition("=")[0]
        if (option := _SET_BY_SEARCH.get(key)) is not None:
            raise UserError(f"{override}: task=capacity sets {key} for each probe; {option} has a say in it")


def describe(result: dict[str, Any]) -> str:
    """What was found, in a line."""
    objectives = ", ".join(f"{key}={bound:g}" for key, bound in result["objectives"].items())
    seeds = f"{len(result['seeds'])} seed{'s' if len(result['seeds']) > 1 else ''}"
    if result["capacity"] is None:
        return f"{result['arm']}: no rate was found that holds {objectives} with each of {seeds}"
    if result["high"] is None:
        return f"{result['arm']}: {objectives} still hold at task.highest ({seeds})"
    return (
        f"{result['arm']}: capacity {result['capacity']:.3g} requests/s, the median of {seeds}; "
        f"[{result['low']:.3g}, {result['high']:.3g}] from the lowest rate that holds to the highest that "
        f"fails; {objectives}"
    )
