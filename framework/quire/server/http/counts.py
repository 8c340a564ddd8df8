"""How many of something one request may ask for."""

from __future__ import annotations

from quire.server.http.errors import ApiError


def check_count(param: str, asked: int, most: int, option: str) -> None:
    """Raise ApiError if it is more than the server allows by its option `server.<option>`."""
    if asked > most:
        raise ApiError(
            400, f"{param}: {asked} are asked for, more than {most} (server.{option})", param=param
        )
