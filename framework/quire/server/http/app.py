"""The application: routes, in the layers that every request goes through.

access log -> traces, where they are wanted -> CORS -> API keys -> bounds -> routes
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from quire.jobs.jsonl import JsonLinesWriter
from quire.server.http.access_log import AccessLog
from quire.server.http.auth import Auth
from quire.server.http.bounds import Bounds
from quire.server.http.context import ServerContext
from quire.server.http.errors import install_error_handlers
from quire.server.http.routes import (
    chat,
    completions,
    embeddings,
    health,
    metrics,
    models,
    page,
    rerank,
    responses,
    tokens,
)
from quire.server.http.streaming import ClientGone

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.trace import Tracer

_ROUTERS = (chat, completions, embeddings, health, metrics, models, page, rerank, responses, tokens)


def create_app(
    context: ServerContext,
    *,
    api_keys: Iterable[str],
    access_log: JsonLinesWriter,
    tracer: Tracer | None = None,
) -> FastAPI:
    """The server's application. It neither starts the engine nor closes it, nor the log, nor what exports the
    spans of `tracer`, without which none are made.
    """
    config = context.config
    layers = [Middleware(AccessLog, writer=access_log)]
    if tracer is not None:
        from quire.server.http.tracing import Tracing

        layers.append(Middleware(Tracing, tracer=tracer))
    if config.cors_origins:
        layers.append(
            Middleware(
                CORSMiddleware, allow_origins=config.cors_origins, allow_methods=["*"], allow_headers=["*"]
            )
        )
    layers += [Middleware(Auth, keys=tuple(api_keys)), Middleware(Bounds, config=config)]
    app = FastAPI(
        title="quire",
        version=context.version,
        docs_url=None,  # both pages load their code from elsewhere
        redoc_url=None,
        middleware=layers,
    )
    app.state.context = context
    install_error_handlers(app)
    app.add_exception_handler(ClientGone, _nobody_there)
    for module in _ROUTERS:
        app.include_router(module.router)
    return app


async def _nobody_there(request: Request, error: Exception) -> Response:
    del request, error
    return Response(status_code=499)
