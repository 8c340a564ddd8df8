"""/ : a page to chat with the model."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

from quire.server.http.errors import ApiError

router = APIRouter()


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """The chat page."""
    return Response(_page(), media_type="text/html; charset=utf-8")


@cache
def _page() -> bytes:
    path = files("quire.server") / "page" / "index.html"
    if not path.is_file():
        raise ApiError(404, "this installation has no chat page", code="unknown_url")
    return path.read_bytes()
