"""Whole answers."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from quire.server.http.json_bytes import encode_json


def json_answer(value: Any, status: int = 200) -> Response:
    """An answer whose body is `value` as JSON."""
    return Response(encode_json(value), status, media_type="application/json")
