"""/metrics: what Prometheus reads."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from quire.server.client import EngineStatus, EngineUnavailable
from quire.server.http.context import Context
from quire.server.http.documented import ERRORS

router = APIRouter()


@router.get(
    "/metrics",
    responses={200: {"description": "Metrics", "content": {"text/plain": {}}}, **ERRORS},
)
async def metrics(context: Context) -> Response:
    """Counters, gauges and histograms of the engine and its requests, in Prometheus' text form."""
    try:
        loading = context.client.status is EngineStatus.STARTING
        context.metrics.update(None if loading else await context.client.stats())
    except EngineUnavailable:
        context.metrics.update(None)
    return Response(context.metrics.render(), headers={"content-type": context.metrics.content_type})
