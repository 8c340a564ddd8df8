"""Answers that end early when the client hangs up: server-sent events, and plain ones that take long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from quire.server.config import ServerConfig
from quire.server.http.access_log import note
from quire.server.http.errors import ApiError, as_api_error
from quire.server.http.json_bytes import encode_json

T = TypeVar("T")

_log = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"
_COMMENT = b": waiting\n\n"


class Last(bytes):
    """Events with which the answer ends: they go in one write with its end, when all is cleaned up."""


class ClientGone(Exception):
    """Nobody is there any more to answer."""


def event(value: Any, name: str | None = None) -> bytes:
    """`value` as an event; with its name where clients go by it."""
    data = b"data: " + encode_json(value) + b"\n\n"
    return data if name is None else b"event: " + name.encode() + b"\n" + data


def error_event(error: ApiError) -> bytes:
    """An error in mid-stream, where the status can no longer say it."""
    return event(error.body())


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; if the client hangs up meanwhile, it is cancelled and ClientGone raised."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request.receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            note(request.scope, gone=True)
            raise ClientGone
        return task.result()
    finally:
        await _end(gone)
        await _end(task)


class EventStream(Response):
    """Sends events as they come, and a comment when none has come for a while.

    What fails before the first event (and the first comment) is an answer with the status of the error; later
    it is one last event. When the client hangs up, or takes nothing for `config.send_seconds`, the
    answer ends there. `events` is closed in any case.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        config: ServerConfig,
        on_error: Callable[[ApiError], bytes] = error_event,
    ) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._config = config
        self._on_error = on_error
        self._started = False
        self._sending_since: float | None = None
        self._last_sent = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        self._last_sent = loop.time()
        delivery = asyncio.ensure_future(self._deliver(scope, send))
        gone = asyncio.ensure_future(_disconnected(receive))
        tasks = [gone, delivery]
        pause = min(self._config.keep_alive_seconds, self._config.send_seconds)
        try:
            while True:
                await asyncio.wait((delivery, gone), timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                if delivery.done():
                    break
                now = loop.time()
                if gone.done() or self._is_stuck(now):
                    note(scope, gone=True)
                    return
                if self._sending_since is None and now - self._last_sent >= self._config.keep_alive_seconds:
                    tasks[2:] = [asyncio.ensure_future(self._send(send, _COMMENT))]  # the one before is done
        finally:
            for task in tasks:
                await _end(task)
        delivery.result()

    def _is_stuck(self, now: float) -> bool:
        return self._sending_since is not None and now - self._sending_since >= self._config.send_seconds

    async def _deliver(self, scope: Scope, send: Send) -> None:
        end = b""
        try:
            async with contextlib.aclosing(self._events) as events:
                async for data in events:
                    if isinstance(data, Last):
                        end = data
                    else:
                        await self._send(send, data)
        except Exception as error:
            if not self._started:
                raise
            told = as_api_error(error)
            note(scope, error=str(error))
            if told.code == "internal_error":
                _log.exception("a stream broke")
            end = self._on_error(told)
        await self._send(send, end, more=False)

    async def _send(self, send: Send, data: bytes, *, more: bool = True) -> None:
        now = asyncio.get_running_loop().time
        self._sending_since = now()
        if not self._started:
            self._started = True
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
        await send({"type": "http.response.body", "body": data, "more_body": more})
        self._sending_since = None
        self._last_sent = now()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancel a task, and wait until it has cleaned up."""
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
