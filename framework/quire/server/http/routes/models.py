"""/v1/models and /version: what is served, and by what."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from quire.server.client import EngineStatus
from quire.server.http.answer import json_answer
from quire.server.http.context import Context, ServerContext
from quire.server.http.documented import answers

router = APIRouter()


@router.get("/v1/models", responses=answers({"object": str, "data": list}))
async def models(context: Context) -> Response:
    """The names of the model that is served."""
    return json_answer({"object": "list", "data": [_model(context, name) for name in context.names]})


@router.get(
    "/v1/models/{name:path}",
    responses=answers({"id": str, "object": str, "created": int, "owned_by": str}),
)
async def model(name: str, context: Context) -> Response:
    """One of them."""
    return json_answer(_model(context, context.model(name)))


@router.get("/version", responses=answers({"version": str}))
async def version(context: Context) -> Response:
    """The version of quire."""
    return json_answer({"version": context.version})


def _model(context: ServerContext, name: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": context.created,
        "owned_by": "quire",
        "root": context.names[0],
    }
    if context.client.status is not EngineStatus.STARTING:
        described["max_model_len"] = context.client.card.max_model_tokens
    return described
