"""What every route works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from quire.embedding.recipe import Recipe
from quire.server.client import EngineClient, EngineStatus, EngineUnavailable
from quire.server.config import ServerConfig
from quire.server.http.errors import ApiError
from quire.server.http.front_tokenizer import FrontTokenizer
from quire.server.metrics import ServerMetrics
from quire.server.tools.tool_format import ToolFormat


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerContext:
    """One server: the engine that it asks, and what it tells the world about it."""

    client: EngineClient
    config: ServerConfig
    tokenizer: FrontTokenizer
    names: tuple[str, ...]
    """What clients may call the model; the first is the usual one."""
    recipe: Recipe
    """How texts are tokenised for embeddings, as the model's files say."""
    metrics: ServerMetrics
    processors: frozenset[str]
    """Logits processors that the engine has, by name: what `SamplingParams.extra` may name."""
    tool_format: ToolFormat | None
    """How the model writes calls of tools; None where that is not known."""
    created: int
    """When the server started: seconds since 1970."""
    version: str

    def model(self, asked: str | None) -> str:
        """The name under which an answer goes out. Raises ApiError if the model asked for is not served."""
        if not asked:
            return self.names[0]
        if asked not in self.names:
            raise ApiError(
                404,
                f"model {asked!r} is not served here; served: {', '.join(self.names)}",
                param="model",
                code="model_not_found",
            )
        return asked


async def _context(request: Request) -> ServerContext:
    return request.app.state.context


async def _loaded(request: Request) -> ServerContext:
    context: ServerContext = request.app.state.context
    if context.client.status is EngineStatus.STARTING:
        raise EngineUnavailable("the model is still being loaded", retry_after=5.0)
    return context


Context = Annotated[ServerContext, Depends(_context)]
"""A route's parameter that receives the server's context."""
LoadedContext = Annotated[ServerContext, Depends(_loaded)]
"""The same for routes that need the model: before it is loaded they answer 503."""
