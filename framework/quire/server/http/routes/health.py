"""/health and /ready: whether the server lives, and whether it takes requests."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from quire.server.client import EngineStatus
from quire.server.http.answer import json_answer
from quire.server.http.context import Context
from quire.server.http.documented import answers

router = APIRouter()


@router.get("/health", responses=answers({"status": str}))
async def health(context: Context) -> Response:
    """200 while the engine lives, loading included; 503 when it is dead."""
    status = context.client.status
    return json_answer({"status": status.value}, 503 if status is EngineStatus.DEAD else 200)


@router.get("/ready", responses=answers({"status": str}))
async def ready(context: Context) -> Response:
    """200 when the model is loaded and requests are taken; otherwise 503."""
    status = context.client.status
    return json_answer({"status": status.value}, 200 if status is EngineStatus.READY else 503)
