"""Whatever goes wrong, as OpenAI's error object: {"error": {message, type, param, code}}."""

from __future__ import annotations

import http
import math
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from quire.errors import UserError
from quire.server.client import EngineUnavailable, QueueFull, RequestTimeout
from quire.server.http.json_bytes import encode_json

INVALID = "invalid_request_error"
"""The type of all that the client can mend."""
_ENGINES_NAME = re.compile(r"^request '[^']*': ")
"""How the engine begins: with a name that the client has never seen."""
_FIELD = re.compile(r"(?!(?:grammar|text)\b)([a-z_]+)[=:\[.]")
"""What a message is about, where it is a field of the request; no field for prompts or forms is called so."""


class ApiError(Exception):
    """An answer that is an error. `param` names the field of the request, `code` is for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        return Response(
            encode_json(self.body()), self.status, headers=self.headers, media_type="application/json"
        )


def as_api_error(error: Exception) -> ApiError:
    """What a client is told of `error`; nothing of the inside of one that is not its fault."""
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            return _of_http(error)
        case UserError():
            message = _ENGINES_NAME.sub("", str(error))
            named = _FIELD.match(message)
            return ApiError(400, message, param=None if named is None else named[1])
        case QueueFull():
            return ApiError(
                429, str(error), type="rate_limit_error", code="queue_full", headers=_retry_after(error)
            )
        case EngineUnavailable():
            return ApiError(
                503, str(error), type="server_error", code="unavailable", headers=_retry_after(error)
            )
        case RequestTimeout():
            return ApiError(504, str(error), type="server_error", code="timeout")
        case _:
            return ApiError(
                500, "the server failed; its log says why", type="server_error", code="internal_error"
            )


def _retry_after(error: EngineUnavailable) -> dict[str, str]:
    return {"retry-after": str(max(1, math.ceil(error.retry_after or 1.0)))}


def _invalid(error: RequestValidationError) -> ApiError:
    """The first of pydantic's complaints; in a union, of the branch that it tried first."""
    first = error.errors()[0]
    if first["loc"] == ("body",) and isinstance(first["input"], bytes | str):
        return ApiError(400, "the body: was not read as JSON; its content-type must be application/json")
    if first["loc"] == ("body",):
        return ApiError(400, "the body: must be a JSON object")
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is no JSON: {first['ctx']['error']} at character {first['loc'][-1]}")
    path = [str(part) for part in first["loc"][1:]]
    param = next((part for part in path if not part.isdigit()), None)
    where = ".".join(path) or "the body"
    return ApiError(400, f"{where}: {first['msg']}", param=param)


def _of_http(error: HTTPException) -> ApiError:
    codes = {404: "unknown_url", 405: "method_not_allowed"}
    phrase = http.HTTPStatus(error.status_code).phrase
    message = error.detail if error.detail != phrase else f"{phrase.lower()}: see /openapi.json"
    return ApiError(
        error.status_code, message, code=codes.get(error.status_code), headers=dict(error.headers or {})
    )


async def _respond(request: Request, error: Exception) -> Response:
    del request
    return as_api_error(error).response()


def install_error_handlers(app: FastAPI) -> None:
    """Every error of every route has one form. Those of unknown kind are raised on, to be logged."""
    for kind in (
        ApiError,
        RequestValidationError,
        HTTPException,
        UserError,
        EngineUnavailable,
        RequestTimeout,
        Exception,
    ):
        app.add_exception_handler(kind, _respond)
