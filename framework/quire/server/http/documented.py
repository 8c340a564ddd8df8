"""What the OpenAPI description says of answers, which are built by hand."""

from __future__ import annotations

from typing import Any

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}


def answers(fields: dict[str, type], *, stream: bool = False) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that answers with an object of these fields, or with events if asked to."""
    schema = {
        "type": "object",
        "required": list(fields),
        "properties": {name: {"type": _TYPES[kind]} for name, kind in fields.items()},
    }
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if stream:
        content["text/event-stream"] = {}
    return {200: {"description": "The answer", "content": content}, **ERRORS}


ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "The request cannot be served as it is",
        "content": {"application/json": {"schema": _ERROR}},
    },
    "5XX": {
        "description": "The server cannot serve it now",
        "content": {"application/json": {"schema": _ERROR}},
    },
}
