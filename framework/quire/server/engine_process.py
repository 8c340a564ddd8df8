"""One process with an engine in it: started, spoken to, and its end explained."""

from __future__ import annotations

import asyncio
import atexit
import multiprocessing
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.server import child
from quire.server.client import EngineDead, ModelCard
from quire.server.messages import Command, Failed, Ready, Reply
from quire.server.pipe import Pipe

if TYPE_CHECKING:
    from quire.config.run_config import RunConfig
    from quire.server.limits import EngineLimits

_EXIT_SECONDS = 10.0
"""What a process whose connection is closed may take to end by itself."""


class EngineProcess:
    """`on_reply` receives what the engine says once its model is loaded; `on_lost` is called once, when the
    connection is gone: the process has ended, or is about to.
    """

    def __init__(self, *, on_reply: Callable[[Reply], None], on_lost: Callable[[], None]) -> None:
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._pipe = Pipe(on_reply=self._hear, on_lost=self._lose)
        self._loaded: asyncio.Future[ModelCard | None] = asyncio.get_running_loop().create_future()
        """The card; None if the process ended before it could say."""
        self._last_words: Failed | None = None

    async def launch(self, config: RunConfig, directory: Path, limits: EngineLimits) -> ModelCard:
        """Start the process and wait until the model is loaded. Raises UserError, or EngineDead.

        The process does not outlive a failure or a cancellation of this call.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = multiprocessing.get_context("spawn").Process(
                target=child.main, args=(theirs, config, directory, limits), name="quire-engine"
            )
            with _signals_held():
                self._process.start()
        atexit.register(self._process.kill)  # runs before multiprocessing's own hook, which would wait for it
        try:
            await asyncio.get_running_loop().create_connection(lambda: self._pipe, sock=ours)
            card = await self._loaded
        except BaseException:
            self._process.kill()
            await self.end()
            raise
        if card is None:
            await self.end()
            if self._last_words is not None and self._last_words.by_user:
                raise UserError(self._last_words.reason)
            raise EngineDead(f"the engine could not be started: {self.obituary()}")
        return card

    @property
    def pid(self) -> int:
        pid = self._process.pid
        assert pid is not None, "it has been launched"
        return pid

    def send(self, command: Command) -> None:
        """Never waits. TypeError, ValueError or OverflowError if msgpack cannot say what it holds."""
        self._pipe.send(command)

    async def end(self) -> None:
        """Close the connection and wait for the process's end, or make one."""
        self._pipe.close()
        if not await self._exits():
            self._process.kill()
        self._process.join()
        atexit.unregister(self._process.kill)

    def obituary(self) -> str:
        """What ended the process, which has ended."""
        if self._last_words is not None:
            return self._last_words.reason
        code = self._process.exitcode
        assert code is not None, "it has ended"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        return f"process {self.pid} {how}"

    async def _exits(self) -> bool:
        """Whether the process ends by itself, soon."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._process.sentinel, ended.set)
        try:
            async with asyncio.timeout(_EXIT_SECONDS):
                await ended.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._process.sentinel)
        return True

    def _hear(self, reply: Reply) -> None:
        match reply:
            case Ready():
                self._loaded.set_result(reply.card)
            case Failed():
                self._last_words = reply
                self._pipe.close()
            case _:
                self._on_reply(reply)

    def _lose(self) -> None:
        if not self._loaded.done():
            self._loaded.set_result(None)
        else:
            self._on_lost()


@contextmanager
def _signals_held() -> Generator[None]:
    """A Ctrl-C while a process is being started must not reach it before it has learned to leave it to us."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
