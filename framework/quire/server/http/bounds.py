"""Bounds on what a client may send, and on how many may ask at once; checked before anything is parsed."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quire.server.config import ServerConfig
from quire.server.http.access_log import note
from quire.server.http.errors import ApiError

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})


class Bounds:
    """Reads a request's body, no longer and no more than allowed, and hands it on whole."""

    def __init__(self, app: ASGIApp, *, config: ServerConfig) -> None:
        self._app = app
        self._config = config
        self._max_bytes = config.max_body_bytes
        self._in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _BODILESS:
            await self._app(scope, receive, send)
            return
        if self._in_progress >= self._config.max_concurrent:
            refusal = ApiError(
                429,
                f"{self._in_progress} requests are in progress, as many as may be (server.max_concurrent)",
                type="rate_limit_error",
                code="too_many_requests",
                headers={"retry-after": "1", "connection": "close"},
            )
            await refusal.response()(scope, receive, send)
            return
        self._in_progress += 1
        try:
            await self._admit(scope, receive, send)
        finally:
            self._in_progress -= 1

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._config.body_seconds):
                body = await self._read(scope, receive)
        except TimeoutError:
            refusal = ApiError(
                408,
                f"the body did not arrive within {self._config.body_seconds:g} s (server.body_seconds)",
                code="body_timeout",
                headers={"connection": "close"},
            )
            await refusal.response()(scope, receive, send)
            return
        except ApiError as refusal:
            await self._refuse_body(refusal, scope, receive, send)
            return
        if body is None:
            note(scope, gone=True)
            return
        if self._config.log_prompts:
            note(scope, body=body.decode(errors="backslashreplace"))
        handed_on = False

        async def replay() -> Message:
            nonlocal handed_on
            if handed_on:
                return await receive()
            handed_on = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body; None if the client hung up. Raises ApiError as soon as it is known to be too large."""
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared[:18]) > self._max_bytes:
            raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._max_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return b"".join(chunks)

    def _too_large(self) -> ApiError:
        return ApiError(
            413,
            f"the body is larger than {self._max_bytes} bytes (server.max_body)",
            code="body_too_large",
            headers={"connection": "close"},
        )

    async def _refuse_body(self, refusal: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer at once, then let the client finish: closing while it writes would lose it the answer."""
        response = refusal.response()
        await send(
            {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
        )
        await send({"type": "http.response.body", "body": bytes(response.body), "more_body": True})
        try:
            async with asyncio.timeout(self._config.body_seconds):
                while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                    pass
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})
