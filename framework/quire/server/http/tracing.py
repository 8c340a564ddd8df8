"""A layer that makes a span of each request for the model, as part of the trace that the client is in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import propagate
from opentelemetry.trace import SpanKind, StatusCode
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quire.server.http.access_log import noted
from quire.server.http.trace import begin_trace

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

    from quire.server.http.trace import Trace

_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/rerank": "rerank",
    "/rerank": "rerank",
    "/score": "score",
}
"""What is traced, by route, under the names of the conventions where they have one."""


class Tracing:
    """To stand within the access log, whose notes it reads, and around everything else."""

    def __init__(self, app: ASGIApp, *, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = _OPERATIONS.get(scope["path"]) if scope["type"] == "http" else None
        if operation is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        parent = propagate.extract(dict(Headers(scope=scope)))
        span = self._tracer.start_span(operation, context=parent, kind=SpanKind.SERVER)
        if not span.is_recording():  # a sampler has left it out
            await self._app(scope, receive, send)
            return
        trace, status = begin_trace(scope), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            span.record_exception(error)
            raise
        finally:
            _tell(span, operation, trace, scope, status)
            span.end()


def _tell(span: Span, operation: str, trace: Trace, scope: Scope, status: int) -> None:
    lines = noted(scope)
    span.set_attributes(
        {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "quire",
            "http.request.method": scope["method"],
            "http.route": scope["path"],
            **({"http.response.status_code": status} if status else {}),  # none went out to who left before
            **trace.attributes(lines),
        }
    )
    if "model" in lines:
        span.update_name(f"{operation} {lines['model']}")
    if lines.get("gone"):
        span.set_attribute("error.type", "client_disconnected")
    elif "error" in lines:  # in mid-stream
        span.set_attribute("error.type", "stream_broken")
        span.set_status(StatusCode.ERROR, lines["error"])
    elif not 200 <= status < 400:
        span.set_attribute("error.type", str(status or 500))  # without an answer: it comes from farther out
        if not 400 <= status < 500:
            span.set_status(StatusCode.ERROR)
