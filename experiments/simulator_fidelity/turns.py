"""Real runs that take turns, and each of whose steps is measured several times.

    run a   |host, step n|        |step n|        |step n|        |host, step n + 1| ...
    run b                |host, m|       |step m|        |step m|                   ...

Whatever slows the machine down meets all runs alike, and a measurement that it spoils is outvoted: a step
takes the median of its measurements, which lie a turn of other runs apart. Who has got further than others
lets them go on first, so that all end together. Each run has an engine and a clock of its own. The clock
goes on in its run's turns only, moves by that median once a step is done, and jumps over the time in which
its run would wait for arrivals.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path

from quire.clock import Clock
from quire.config.compose import compose
from quire.engine.engine import Engine
from quire.engine.request import Request
from quire.jobs.feed import serve
from quire.jobs.launch import Launch
from quire.jobs.recording import Recording
from quire.jobs.warm_up import warm_up
from quire.registry import load_registry
from quire.run import Run

REPEATED = EntryPoint(name="repeated", value="repeated:RepeatedExecutor", group="quire.executor")


class TurnClock(Clock):
    """Seconds of real time in which it goes on, and those that it was moved by."""

    def __init__(self) -> None:
        self.measured: list[list[float]] = []
        """Of each step the seconds of all its measurements, in their order."""
        self.hand_over: Callable[[], None] = lambda: None
        """Lets all others have their turns; at first there are none."""
        self._past = 0.0
        self._started: float | None = time.perf_counter()

    def go_on(self) -> None:
        self._started = time.perf_counter()

    def stop(self) -> None:
        self._past, self._started = self.now(), None

    def move(self, seconds: float) -> None:
        self._past += seconds

    def now(self) -> float:
        return self._past + (0.0 if self._started is None else time.perf_counter() - self._started)

    def sleep_until(self, when: float) -> None:
        self._past += max(0.0, when - self.now())


class Player:
    """A thread that works in its turns only, and hands over in between."""

    def __init__(self, work: Callable[[], None], progress: Callable[[], float]) -> None:
        """`progress` says what part of the work is done, 0 to 1."""
        self.progress = progress
        self._work = work
        self._go, self._rests = threading.Semaphore(0), threading.Semaphore(0)
        self._ended = False
        self._error: BaseException | None = None
        threading.Thread(target=self._play, daemon=True).start()

    def take_turn(self) -> bool:
        """Let it work until it hands over or ends; whether there is more to do. Raises what it raised."""
        self._go.release()
        self._rests.acquire()
        if self._error is not None:
            raise self._error
        return not self._ended

    def hand_over(self) -> None:
        """Called by its own thread: wait for the next turn."""
        self._rests.release()
        self._go.acquire()

    def _play(self) -> None:
        self._go.acquire()
        try:
            self._work()
        except BaseException as error:  # it is raised where the turns are given
            self._error = error
        self._ended = True
        self._rests.release()


def record(runs: Mapping[Path, Sequence[str]]) -> None:
    """Serve all of `runs`, overrides by the directory for the results, in turns. They need
    `executor=repeated`, and `engine.overlap=false`, so that no step is under way when a turn is over.
    """
    with ExitStack() as stack:
        circle: list[Player] = []
        for directory, overrides in runs.items():
            clock = TurnClock()
            player = Player(*stack.enter_context(prepared(overrides, directory, clock)))
            clock.hand_over = player.hand_over
            circle.append(player)
        play(circle)


def play(players: Iterable[Player]) -> None:
    """Give turns, to those that have got least far one after another, until all have ended."""
    circle = list(players)
    while circle:
        least = min(player.progress() for player in circle)
        circle = [player for player in circle if player.progress() > least or player.take_turn()]


@contextmanager
def prepared(
    overrides: Sequence[str], directory: Path, clock: TurnClock
) -> Iterator[tuple[Callable[[], None], Callable[[], float]]]:
    """A run as `task=bench` makes it, its model loaded and warm, and the clock stopped: what serves it, and
    what part of its tokens have been generated.
    """
    directory.mkdir(parents=True, exist_ok=True)
    registry = load_registry(extra=(REPEATED,))
    run = Run(
        config=compose(overrides, registry),
        registry=registry,
        directory=directory,
        launch=Launch(command=("run.py", *overrides), overrides=tuple(overrides)),
    )
    with closing(run.engine(clock=clock, with_text=False)) as engine:
        requests = list(run.requests(run.workload(), engine))
        warm_up(engine, tenant=requests[0].tenant)
        clock.stop()
        clock.measured.clear()
        before = engine.num_generated
        tokens = sum(each.forced_output_tokens or 0 for each in requests)
        assert tokens, "lengths are forced, so that progress is known"
        yield (
            lambda: serve_run(run, engine, requests, clock),
            lambda: (engine.num_generated - before) / tokens,
        )


def serve_run(run: Run, engine: Engine, requests: Iterable[Request], clock: TurnClock) -> None:
    """All of the run that takes turns. Beside its records, `measured.json` has every measurement."""
    clock.go_on()
    with Recording(run=run, engine=engine) as recording:
        for outputs in serve(engine, requests, whole=True):
            recording.take(outputs)
    (run.directory / "measured.json").write_text(json.dumps(clock.measured) + "\n")
