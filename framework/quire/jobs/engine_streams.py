"""Streams on an event loop from an engine that Python code also asks directly.

A thread steps the engine from the first stream on. Who asks directly borrows the engine meanwhile, and hands
on what its steps bring to the streams.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.server.card import card_of
from quire.server.local import LocalEngineClient

if TYPE_CHECKING:
    from quire.engine.engine import Engine
    from quire.engine.outputs import SequenceOutput
    from quire.run import Run


class EngineStreams:
    """One engine's streams, all on one event loop at a time. `close` comes before the engine's own."""

    def __init__(self, *, run: Run, engine: Engine) -> None:
        self._run = run
        self._engine = engine
        self._client: LocalEngineClient | None = None
        self._lock = threading.Lock()
        """Held by who makes or ends the client, and by who asks the engine directly."""

    async def client(self) -> LocalEngineClient:
        """The client of the loop that runs. Raises UserError while another loop reads streams."""
        while not self._lock.acquire(blocking=False):
            await asyncio.sleep(0.005)
        try:
            if self._client is not None and self._client.loop is not asyncio.get_running_loop():
                if self._client.loop.is_running() and self._client.is_busy:
                    raise UserError("stream: another event loop reads streams of this model; one loop may")
                self._client.stop()
                self._client = None
            if self._client is None:
                card = card_of(self._run, self._engine)
                self._client = LocalEngineClient(engine=self._engine, card=card)
                await self._client.start()
            return self._client
        finally:
            self._lock.release()

    @contextmanager
    def engine(self) -> Generator[Callable[[list[SequenceOutput]], None]]:
        """The engine for the calling thread alone; others wait.

        Outputs of streams that its steps bring are to be given to the function that this yields.
        """
        with self._lock:
            if self._client is None:
                yield _no_streams
            else:
                with self._client.borrow() as deliver:
                    yield deliver

    def close(self) -> None:
        """End the thread; streams that are still read never end."""
        with self._lock:
            if self._client is not None:
                self._client.stop()
                self._client = None


def _no_streams(outputs: list[SequenceOutput]) -> None:
    """The last words of what an interrupt cut short, at most."""
    del outputs
