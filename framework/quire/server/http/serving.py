"""The life of a server: it listens while the model loads, and ends what it began before it goes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import uvicorn
from fastapi import FastAPI

from quire.errors import UserError
from quire.server.client import EngineClient
from quire.server.config import ServerConfig
from quire.server.http.connection import connection_type

_LAST_BYTES_SECONDS = 5
"""After all requests have ended, time for clients to take what was written for them."""


def listen(config: ServerConfig) -> socket.socket:
    """A listening socket. Raises UserError if the address cannot be had."""
    where = f"server.host={config.host} server.port={config.port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048)
    except socket.gaierror as error:
        raise UserError(f"{where}: there is no such address: {error.strerror}") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"{where}: the port is in use; server.port=0 takes a free one") from None
        raise UserError(f"{where}: cannot listen there: {os.strerror(error.errno or 0)}") from None
    # Connections inherit it. asyncio leaves out sockets that do not name their protocol, and the first piece
    # of a stream would wait until the client has acknowledged the headers: 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a socket listens, for a browser."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(
    app: FastAPI,
    *,
    client: EngineClient,
    config: ServerConfig,
    listener: socket.socket,
    on_ready: Callable[[], None],
) -> None:
    """Start the engine, serve until SIGTERM or SIGINT, then drain: refuse what is new, finish what is not.

    A second signal ends the wait. Raises what `EngineClient.start` raises; the engine is closed in any case.
    """
    server = _Server(
        uvicorn.Config(
            app,
            http=connection_type(config.body_seconds),
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_LAST_BYTES_SECONDS,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    life = asyncio.create_task(_live(client, config, on_ready))
    try:
        await asyncio.wait((serving, life), return_when=asyncio.FIRST_COMPLETED)
    finally:
        life.cancel()
        server.should_exit = True
        await asyncio.wait((serving, life))
        await client.close()
    for task in (life, serving):
        if not task.cancelled():
            task.result()


async def _live(client: EngineClient, config: ServerConfig, on_ready: Callable[[], None]) -> None:
    """Returns when the server may go."""
    signals: asyncio.Queue[None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, None)
    stopped = asyncio.create_task(signals.get())
    if not await _before(client.start(), stopped):
        return
    on_ready()
    await stopped
    await _before(client.drain(config.drain_seconds), asyncio.create_task(signals.get()))


async def _before(work: Coroutine[Any, Any, Any], signal: asyncio.Task[None]) -> bool:
    """Do the work until a signal comes; whether it was done. Raises what it raises."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task, signal), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        return task.done()
    finally:
        task.cancel()


class _Server(uvicorn.Server):
    """Leaves signals to `serve`: uvicorn would stop listening first, and end with the signal's own status."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
