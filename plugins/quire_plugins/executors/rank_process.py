"""A process that computes one rank's share, told what to do by the first rank's.

first rank                               this process
RankProcess(...)        -- spawn -->     makes its parts of the run's configuration
reply()                 <-- None --
  both wait in RankGroup for each other, then load
reply()                 <-- None --
call("start", ...)      -------->        reply()
call("submit", plan)    -------->        no answer: it draws the same tokens
close()
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import signal
import traceback
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.clock import WallClock
from quire.errors import UserError
from quire.interfaces.executor import ExecutorLost

if TYPE_CHECKING:
    from quire.config.run_config import RunConfig
    from quire.models.shard import Share
    from quire.run import Run
    from quire.text.tokenizer import Tokenizer
    from quire_plugins.executors.rank import Rank

_log = logging.getLogger(__name__)
_EXIT_SECONDS = 10.0


class RankProcess:
    """The first rank's end."""

    def __init__(self, *, share: Share, config: RunConfig, rendezvous: Path, seconds: float) -> None:
        """Starts it; `reply` then waits until its parts are made, and once more until its model is loaded."""
        spawn = multiprocessing.get_context("spawn")
        self._share = share
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(
            target=_main,
            args=(theirs, share, config, rendezvous, seconds),
            name=f"quire-rank-{share.rank}",
        )
        self._process.start()
        atexit.register(self._process.kill)  # runs before multiprocessing's own hook, which would wait for it
        theirs.close()

    @property
    def pid(self) -> int:
        pid = self._process.pid
        assert pid is not None, "it was started"
        return pid

    def call(self, name: str, *arguments: Any, **options: Any) -> None:
        """Have its executor do that. Raises ExecutorLost if it is gone."""
        try:
            self._connection.send((name, arguments, options))
        except OSError:
            raise self._loss() from None

    def reply(self) -> Any:
        """What came of the oldest call that is answered; waits. Raises what it raised, or ExecutorLost."""
        try:
            wait([self._connection, self._process.sentinel])
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise self._loss() from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def check(self, seconds: float = 0.0) -> None:
        """Raise ExecutorLost if it is gone, or will be in so many seconds."""
        if wait([self._process.sentinel], timeout=seconds):
            raise self._loss()

    def close(self) -> None:
        """End it, by force if it does not by itself."""
        try:
            self._connection.send(("close", (), {}))
        except OSError:
            pass  # it is gone already
        self._process.join(_EXIT_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        atexit.unregister(self._process.kill)
        self._connection.close()

    def _loss(self) -> ExecutorLost:
        self._process.join(_EXIT_SECONDS)
        code = self._process.exitcode
        how = (
            f"killed by {signal.Signals(-code).name}"
            if code is not None and code < 0
            else f"exit code {code}"
        )
        return ExecutorLost(f"rank {self._share.rank} of {self._share.size} is gone: {how}")


def _main(connection: Connection, share: Share, config: RunConfig, rendezvous: Path, seconds: float) -> None:
    """The process. Signals that a terminal sends to the whole group are the first rank's to act on; when that
    one is gone, the connection ends and so does this process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        rank = _join(connection, share, config, rendezvous, seconds)
        if rank is not None:
            _serve(connection, rank)
    except (EOFError, OSError):
        _log.info("rank %d: the first rank is gone", share.rank)


def _join(
    connection: Connection, share: Share, config: RunConfig, rendezvous: Path, seconds: float
) -> Rank | None:
    """The executor, once all ranks have loaded their shares; None if something was wrong, which was said."""
    from quire.registry import load_registry
    from quire.run import Run
    from quire.runtime.rank_group import RankGroup
    from quire_plugins.executors.rank import Rank

    run = Run(config=config, registry=load_registry(), directory=Path())
    try:
        context = run.executor_context(WallClock())
        connection.send(None)
        group = RankGroup(share=share, device=context.device, rendezvous=rendezvous, seconds=seconds)
        rank = Rank(config=config.executor, context=context, group=group)
        run.bind_processors(rank, _tokenizer(run))
    except Exception as error:
        connection.send(_sendable(error))
        return None
    connection.send(None)
    return rank


def _tokenizer(run: Run) -> Tokenizer | None:
    try:
        return run.tokenizer
    except UserError:
        return None  # the engine works without text, then


def _serve(connection: Connection, rank: Rank) -> None:
    under_way = 0
    while True:
        name, arguments, options = connection.recv()
        if name == "close":
            return
        if name == "submit":
            if under_way == rank.depth:  # the first rank has collected one
                _collect(rank)
                under_way -= 1
            rank.submit(*arguments, **options)
            under_way += 1
            continue
        try:
            answer = getattr(rank, name)(*arguments, **options)
        except Exception as error:
            answer = _sendable(error)
        connection.send(answer)


def _collect(rank: Rank) -> None:
    """Make room for another step. What breaks a step breaks it on all ranks; the first tells the engine."""
    try:
        rank.collect()
    except Exception:
        _log.debug("a step failed:\n%s", traceback.format_exc())


def _sendable(error: Exception) -> Exception:
    """One that the other process can read."""
    if isinstance(error, UserError):
        return UserError(str(error))
    traceback.print_exception(error)
    return RuntimeError(f"{type(error).__name__}: {error}")
