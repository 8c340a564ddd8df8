"""One JSON line a request: what was asked, what came of it, how long it took. Never what the prompt said,
unless the server's owner wants it.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Mapping, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quire.jobs.jsonl import JsonLinesWriter
from quire.server.http.json_bytes import encode_json

_RECORD = "quire.record"
_ID = re.compile(r"[\x21-\x7e]{1,128}")
_log = logging.getLogger(__name__)


def note(scope: MutableMapping[str, Any], **fields: Any) -> None:
    """Add to the line of the request that is being answered."""
    scope.get(_RECORD, {}).update(fields)


def noted(scope: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """What has been noted so far of the request that is being answered."""
    return scope.get(_RECORD, {})


class AccessLog:
    """The outermost layer: gives each request its id, and writes its line when it has been answered.

    A client's own `x-request-id` is kept if it is printable and short; the answer carries it in any case.
    Lines that cannot be written (the disk is full) are counted and missing: requests go on.
    """

    def __init__(self, app: ASGIApp, *, writer: JsonLinesWriter) -> None:
        self._app = app
        self._writer = writer
        self._lost = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if _ID.fullmatch(asked) else uuid.uuid4().hex
        record: dict[str, Any] = {}
        scope[_RECORD] = record
        began, status, first_body = time.perf_counter(), 0, None

        async def watched(message: Message) -> None:
            nonlocal status, first_body
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            elif first_body is None:
                first_body = time.perf_counter()
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            ended = time.perf_counter()
            self._write(
                {
                    "time": round(time.time(), 3),
                    "request_id": request_id,
                    "client": (scope.get("client") or ("",))[0],
                    "method": scope["method"],
                    "route": scope["path"],
                    "status": 499 if record.pop("gone", False) else status,
                    "seconds": round(ended - began, 6),
                    "seconds_to_first_byte": None if first_body is None else round(first_body - began, 6),
                }
                | record
            )

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._writer.append(encode_json(line) + b"\n")
        except OSError as error:
            if not self._lost:
                _log.warning("the access log cannot be written: %s; requests go on without it", error)
            self._lost += 1
            return
        if self._lost:
            _log.warning("the access log can be written again; %d lines are missing", self._lost)
            self._lost = 0
