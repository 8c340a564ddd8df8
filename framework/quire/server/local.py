"""An engine in a thread of this process: for tests, and for streaming from Python."""

from __future__ import annotations

import asyncio
import queue
import threading
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from quire.engine.engine import Engine
from quire.engine.outputs import SequenceOutput
from quire.server.client import EngineDead, EngineStatus, ModelCard
from quire.server.dispatch import DispatchingClient
from quire.server.host import EngineHost
from quire.server.limits import EngineLimits
from quire.server.link import Link
from quire.server.messages import Abort, Command, Reply, Stop


@dataclass(frozen=True, slots=True)
class _Loan:
    """The engine for somebody else's thread, between two steps."""

    taken: threading.Event = field(default_factory=threading.Event)
    returned: threading.Event = field(default_factory=threading.Event)


class _ThreadLink(Link):
    """Commands through a queue; replies as callbacks on an event loop."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop, dispatch: Callable[[Reply], None]) -> None:
        self._loop = loop
        self._dispatch = dispatch
        self._inbox: queue.SimpleQueue[Command | _Loan] = queue.SimpleQueue()

    def put(self, item: Command | _Loan) -> None:
        self._inbox.put(item)

    def receive(self, *, wait: bool) -> list[Command]:
        commands: list[Command] = []
        while True:
            try:
                item = self._inbox.get(block=wait and not commands)
            except queue.Empty:
                return commands
            if isinstance(item, _Loan):
                item.taken.set()
                item.returned.wait()
                return commands  # the borrower may have left work behind
            commands.append(item)

    def send(self, reply: Reply) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is there to read it
            self._loop.call_soon_threadsafe(self._dispatch, reply)


class LocalEngineClient(DispatchingClient):
    """Serves an engine that was built already, and that its maker closes, after this client."""

    def __init__(self, *, engine: Engine, card: ModelCard, limits: EngineLimits | None = None) -> None:
        super().__init__(limits=limits or EngineLimits())
        self.card = card
        self._engine = engine

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = _ThreadLink(loop=self._loop, dispatch=self._dispatch)
        self._host = EngineHost(engine=self._engine, link=self._link, limits=self._limits)
        self._thread = threading.Thread(target=self._run, name="quire-engine", daemon=True)
        self._thread.start()
        self._status = EngineStatus.READY

    async def close(self) -> None:
        if self._status is not EngineStatus.STARTING:
            await asyncio.to_thread(self.stop)
            self._die(EngineDead("the engine has been closed"))

    def stop(self) -> None:
        """End the thread, and call off in the engine whatever lives still. For callers outside the loop."""
        for request_id in list(self._streams):
            self._link.put(Abort(request_id=request_id))
        self._link.put(Stop())
        self._thread.join()
        while self._engine.has_work:
            self._engine.step()

    @property
    def is_busy(self) -> bool:
        """Whether a stream is still read."""
        return bool(self._streams)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where it was started."""
        return self._loop

    @contextmanager
    def borrow(self) -> Generator[Callable[[list[SequenceOutput]], None]]:
        """The engine for the calling thread; meanwhile this client's thread rests.

        Steps that the borrower makes bring outputs of streams, too: they are to be given to the function that
        this yields.
        """
        loan = _Loan()
        self._link.put(loan)
        while not loan.taken.wait(timeout=0.1):
            if not self._thread.is_alive():
                break
        try:
            yield self._host.deliver
        finally:
            loan.returned.set()

    def _post(self, command: Command) -> None:
        self._link.put(command)

    def _run(self) -> None:
        try:
            self._host.run()
        except Exception as error:
            traceback.print_exc()
            death = EngineDead(f"the engine died: {type(error).__name__}: {error}")
            with suppress(RuntimeError):  # the loop may be closed
                self._loop.call_soon_threadsafe(self._die, death)
