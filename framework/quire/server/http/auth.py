"""API keys: whoever has one of them may ask."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from quire.errors import UserError
from quire.server.http.errors import ApiError

ENVIRONMENT = "QUIRE_API_KEYS"
OPEN_PATHS = frozenset({"/", "/health", "/ready"})
"""What needs no key: probes, and the page, which asks its user for one."""


def read_api_keys(path: str | None) -> frozenset[str]:
    """The keys in the file and in the environment. UserError if the file cannot be read or holds none."""
    keys = {key.strip() for key in os.environ.get(ENVIRONMENT, "").split(",") if key.strip()}
    if path is not None:
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise UserError(f"server.api_keys_file={path!r}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UserError(f"server.api_keys_file={path!r}: is no text in UTF-8") from None
        found = {line.strip() for line in lines if line.strip() and not line.strip().startswith("#")}
        if not found:
            raise UserError(f"server.api_keys_file={path!r}: holds no key; one a line is expected")
        keys |= found
    return frozenset(keys)


class Auth:
    """Refuses requests without a key with 401. With no keys given everybody may ask."""

    def __init__(self, app: ASGIApp, *, keys: Iterable[str]) -> None:
        self._app = app
        self._digests = [_digest(key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._digests and scope["path"] not in OPEN_PATHS:
            scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not self._knows(key.strip()):
                refusal = ApiError(
                    401,
                    "a valid API key is needed: Authorization: Bearer KEY",
                    type="authentication_error",
                    code="invalid_api_key",
                    headers={"www-authenticate": "Bearer"},
                )
                await refusal.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _knows(self, key: str) -> bool:
        """Compares with every key, digests of one length: time tells nothing of how much is right."""
        given = _digest(key)
        return sum(hmac.compare_digest(given, digest) for digest in self._digests) > 0


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()
