"""Clients that leave: connections opened and dropped at different moments."""

from __future__ import annotations

import socket
import struct
from collections import deque

_AT_ONCE = 64
MOMENTS = ("connected", "in the headers", "in the body", "asked", "in the stream")


def drop(port: int, request: bytes, count: int) -> dict[str, int]:
    """Open `count` connections, so many at a time, and drop each at one of `MOMENTS`; how many at which.

    `request` is a POST that streams. Every other one is reset instead of closed.
    """
    done = dict.fromkeys(MOMENTS, 0)
    living: deque[tuple[socket.socket, str, bool]] = deque()
    for index in range(count):
        moment = MOMENTS[index % len(MOMENTS)]
        living.append((_begin(port, request, moment), moment, index // len(MOMENTS) % 2 == 0))
        done[moment] += 1
        if len(living) >= _AT_ONCE:
            _leave(*living.popleft())
    for each in living:
        _leave(*each)
    return done


def _begin(port: int, request: bytes, moment: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = request.index(b"\r\n\r\n") + 4
    sent = {"connected": 0, "in the headers": head // 2, "in the body": head + (len(request) - head) // 2}
    connection.sendall(request[: sent.get(moment, len(request))])
    return connection


def _leave(connection: socket.socket, moment: str, reset: bool) -> None:
    if moment == "in the stream":
        assert connection.recv(64).startswith(b"HTTP/1.1 200"), "the stream has begun"
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
