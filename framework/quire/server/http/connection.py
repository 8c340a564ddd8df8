"""A client's connection, which must bring a whole request's head in time."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def connection_type(head_seconds: float) -> type[asyncio.Protocol]:
    """The protocol that uvicorn is to use: connections whose first head takes longer are closed. Between
    requests uvicorn's own, shorter time for idle connections holds.
    """

    class Connection(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._head_timer = self.loop.call_later(head_seconds, self._close_if_headless)

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_timer.cancel()
            super().connection_lost(exc)

        def _close_if_headless(self) -> None:
            if self.cycle is None:  # pyright: ignore[reportUnnecessaryComparison] - None until a head has come
                self.transport.abort()

    return Connection
