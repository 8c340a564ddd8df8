"""A client's own part, wherever its engine runs: streams, calls, limits; replies find whom they are for."""

from __future__ import annotations

import asyncio
import itertools
import logging
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from quire.engine.outputs import SequenceOutput
from quire.engine.request import Request
from quire.errors import RequestRefused
from quire.server.client import (
    EngineClient,
    EngineDead,
    EngineStats,
    EngineStatus,
    EngineUnavailable,
    QueueFull,
    RequestObserver,
    RequestTimeout,
)
from quire.server.limits import EngineLimits
from quire.server.messages import (
    Abort,
    Add,
    AskScores,
    AskStats,
    AskVectors,
    CallFailed,
    CancelCall,
    Command,
    Outputs,
    Refused,
    Reply,
    Scores,
    Stats,
    Vectors,
)
from quire.server.pace import Pace
from quire.server.stream import Stream

if TYPE_CHECKING:
    import numpy as np

_log = logging.getLogger(__name__)
_ABORT_SECONDS = 10.0
"""What an engine may take to call off what is still in flight after a drain: a step, and a long one."""


class DispatchingClient(EngineClient):
    """Everything but how the engine is started and reached: a subclass posts commands and feeds replies."""

    def __init__(self, *, limits: EngineLimits) -> None:
        self._limits = limits
        self._status = EngineStatus.STARTING
        self._death = EngineDead("the engine has not been started")
        self._streams: dict[str, Stream] = {}
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._call_numbers = itertools.count()
        self._observers: list[RequestObserver] = []
        self._pace = Pace()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._restarts = 0
        self._forget_queue()

    @abstractmethod
    def _post(self, command: Command) -> None:
        """Send to the engine. TypeError, ValueError or OverflowError for what cannot cross to a process."""

    # -- what a front end asks -----------------------------------------------------------------------------

    @property
    def status(self) -> EngineStatus:
        return self._status

    def observe(self, observer: RequestObserver) -> None:
        self._observers.append(observer)

    async def generate(
        self, request: Request, *, whole: bool = False
    ) -> AsyncGenerator[SequenceOutput, None]:
        stream = self._open(request, whole=whole)
        try:
            while pieces := await stream.take():
                for piece in pieces:
                    yield piece
        finally:
            self._close_stream(stream)

    async def embed(self, token_ids: Sequence[Sequence[int]]) -> list[np.ndarray]:
        self._check_room(len(self._calls))
        texts = [list(text) for text in token_ids]
        return await self._call(lambda call: AskVectors(call=call, token_ids=texts))

    async def score(
        self, token_ids: Sequence[Sequence[int]], token_type_ids: Sequence[Sequence[int]] | None = None
    ) -> list[float]:
        self._check_room(len(self._calls))
        pairs = [list(pair) for pair in token_ids]
        types = None if token_type_ids is None else [list(each) for each in token_type_ids]
        return await self._call(lambda call: AskScores(call=call, token_ids=pairs, token_type_ids=types))

    async def stats(self) -> EngineStats:
        if self._status is not EngineStatus.DRAINING:  # an engine that drains still says how far it is
            self._check_available()
        stats: EngineStats = await self._call(lambda call: AskStats(call=call))
        return replace(stats, restarts=self._restarts)

    async def drain(self, seconds: float) -> bool:
        if self._status is not EngineStatus.READY:
            return self._emptied.is_set()
        self._status = EngineStatus.DRAINING
        if await self._empties_within(seconds):
            return True
        for request_id in self._streams:
            self._post(Abort(request_id=request_id))
        await self._empties_within(_ABORT_SECONDS)
        return False

    # -- streams -------------------------------------------------------------------------------------------

    def _check_available(self) -> None:
        if self._status is EngineStatus.DEAD:
            raise self._death
        if self._status is not EngineStatus.READY:
            raise EngineUnavailable(f"the engine is {self._status.value}")

    def _check_room(self, waiting: int) -> None:
        """Whether one more may wait."""
        self._check_available()
        most = self._limits.max_waiting
        if waiting >= most:
            raise QueueFull(
                f"the queue is full: {waiting} wait (server.limits.max_waiting={most}); try again later",
                retry_after=self._pace.retry_after(waiting),
            )

    def _open(self, request: Request, *, whole: bool) -> Stream:
        self._check_room(self._waiting + self._posted - self._seen)
        assert request.arrival_time is None, "a request arrives when the engine reads it"
        if request.id in self._streams:
            raise RequestRefused(f"request {request.id!r}: a request of that id is being served")
        try:
            self._post(Add(request=request, whole=whole))
        except (TypeError, ValueError, OverflowError) as error:
            raise RequestRefused(f"request {request.id!r}: cannot be sent to the engine: {error}") from None
        self._posted += 1
        stream = self._streams[request.id] = Stream(request)
        self._emptied.clear()
        if self._limits.request_seconds is not None:
            stream.expire_after(self._limits.request_seconds, self._expire)
        return stream

    def _close_stream(self, stream: Stream) -> None:
        """Its reader has left, before the end or after it."""
        if self._streams.get(stream.request.id) is stream and not stream.deserted:
            stream.desert()
            self._post(Abort(request_id=stream.request.id))

    def _expire(self, stream: Stream) -> None:
        limit = self._limits.request_seconds
        stream.fail(RequestTimeout(f"request {stream.request.id!r}: not done within {limit} s, and aborted"))
        self._close_stream(stream)

    def _settle(self, stream: Stream) -> None:
        """The engine knows nothing of it any more."""
        stream.settle()
        del self._streams[stream.request.id]
        self._pace.mark(asyncio.get_running_loop().time())
        self._check_emptied()

    def _check_emptied(self) -> None:
        if not self._streams and not self._calls:
            self._emptied.set()

    async def _empties_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._emptied.wait()
        except TimeoutError:
            pass
        return self._emptied.is_set()

    # -- calls ---------------------------------------------------------------------------------------------

    async def _call(self, command: Callable[[int], Command]) -> Any:
        """What the engine answers to `command(number of the call)`."""
        number = next(self._call_numbers)
        answer = self._calls[number] = asyncio.get_running_loop().create_future()
        self._emptied.clear()
        try:
            self._post(command(number))
            return await answer
        except asyncio.CancelledError:
            self._post(CancelCall(call=number))
            raise
        finally:
            del self._calls[number]
            self._check_emptied()

    def _answer(self, call: int, result: Any) -> None:
        waiting = self._calls.get(call)
        if waiting is not None and not waiting.done():
            waiting.set_result(result)

    def _fail_call(self, call: int, failure: Exception) -> None:
        waiting = self._calls.get(call)
        if waiting is not None and not waiting.done():
            waiting.set_exception(failure)

    # -- what the engine says ------------------------------------------------------------------------------

    def _forget_queue(self) -> None:
        """A new engine has nothing in its queue, and has read no command."""
        self._posted = self._seen = self._waiting = 0

    def _dispatch(self, reply: Reply) -> None:
        """A reply has come. Called on the event loop."""
        if self._status is EngineStatus.DEAD:
            return  # what was still on its way
        match reply:
            case Outputs():
                self._seen, self._waiting = reply.seen, reply.waiting
                for piece in reply.outputs:
                    self._hand_over(piece)
            case Refused():
                self._seen += 1
                stream = self._streams[reply.request_id]
                stream.fail(RequestRefused(reply.reason))
                self._settle(stream)
            case Stats():
                self._answer(reply.call, reply.stats)
            case Vectors():
                import numpy as np

                flat = np.frombuffer(reply.data, dtype=np.float32).copy()
                self._answer(reply.call, list(flat.reshape(reply.count, -1)) if reply.count else [])
            case Scores():
                self._answer(reply.call, reply.scores)
            case CallFailed():
                failure = RequestRefused if reply.by_user else RuntimeError
                self._fail_call(reply.call, failure(reply.reason))
            case _:
                raise AssertionError(f"{type(reply).__name__} comes only at the beginning and the end")

    def _hand_over(self, piece: SequenceOutput) -> None:
        stream = self._streams.get(piece.request_id)
        if stream is None:
            return  # of somebody who borrowed the engine, and was interrupted
        if piece.record is not None:
            for observer in self._observers:
                try:
                    observer(stream.request, piece.record)
                except Exception:  # a metric that fails is no reason to fail a request
                    _log.exception("an observer of request %r failed", piece.request_id)
        stream.push(piece)
        if stream.ended:
            self._settle(stream)

    def _die(self, death: EngineDead) -> None:
        """The engine is no more: whatever it had been asked fails."""
        self._status, self._death = EngineStatus.DEAD, death
        self._forget_queue()
        for stream in list(self._streams.values()):
            stream.fail(death)
            self._settle(stream)
        for call in self._calls:
            self._fail_call(call, death)
