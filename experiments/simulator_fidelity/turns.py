"""Real runs that take turns, a step each: whatever slows the machine down meets all of them alike.

Each has an engine and a clock of its own. A clock goes on in its run's turns only, and jumps over the time in
which its run would wait for arrivals.

    run a   |step|      |step|      |step|
    run b        |step|      |step|      ...
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from quire.clock import Clock
from quire.config.compose import compose
from quire.interfaces.workload import WorkloadContext
from quire.jobs.feed import serve
from quire.jobs.launch import Launch
from quire.jobs.recording import Recording
from quire.jobs.warm_up import warm_up
from quire.registry import load_registry
from quire.run import Run


class TurnClock(Clock):
    """Seconds of real time in which it goes on."""

    def __init__(self) -> None:
        self._past = 0.0
        self._started: float | None = None

    def go_on(self) -> None:
        self._started = time.perf_counter()

    def stop(self) -> None:
        self._past, self._started = self.now(), None

    def now(self) -> float:
        return self._past + (0.0 if self._started is None else time.perf_counter() - self._started)

    def sleep_until(self, when: float) -> None:
        self._past += max(0.0, when - self.now())


def record(runs: Mapping[Path, Sequence[str]]) -> None:
    """Serve all of `runs`, overrides by the directory for the results, step by step in turn. They need
    `engine.overlap=false`, so that no step is under way when a turn is over.
    """
    with ExitStack() as stack:
        turns = {
            stack.enter_context(closing(serve_steps(overrides, directory, clock))): clock
            for directory, overrides in runs.items()
            for clock in (TurnClock(),)
        }
        for steps in turns:
            next(steps)  # the model is loaded, the run is ready
        while turns:
            for steps, clock in list(turns.items()):
                clock.go_on()
                if next(steps, None) is None:
                    del turns[steps]
                clock.stop()


def serve_steps(overrides: Sequence[str], directory: Path, clock: Clock) -> Iterator[bool]:
    """The run as `task=bench` makes it. Yields once when it is ready, then after every step."""
    directory.mkdir(parents=True, exist_ok=True)
    registry = load_registry()
    run = Run(
        config=compose(overrides, registry),
        registry=registry,
        directory=directory,
        launch=Launch(command=("run.py", *overrides), overrides=tuple(overrides)),
    )
    with closing(run.engine(clock=clock, with_text=False)) as engine:
        context = WorkloadContext(
            seed=run.config.seed,
            vocab_size=engine.info.vocab_size,
            max_model_tokens=engine.max_model_tokens,
            tokenizer=None,
        )
        requests = list(run.workload().requests(context))
        warm_up(engine, tenant=requests[0].tenant)
        with Recording(run=run, engine=engine) as recording:
            yield True
            for outputs in serve(engine, requests):
                recording.take(outputs)
                yield True
