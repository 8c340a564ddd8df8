"""A light HTTP client for many streams: one thread, bare sockets, one system call a piece.

The machine that is measured runs the client, too, so whatever the client does is taken from the server.
Connections are kept and used again; bodies are put together only when somebody asks for them. With a `rest`
the client sleeps between two looks at its sockets, as a client elsewhere would not be woken by this machine
for each piece; what comes meanwhile is seen that much later.
"""

from __future__ import annotations

import json
import select
import selectors
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

_END = b"0\r\n\r\n"
_DONE = b"data: [DONE]"


class StreamLost(Exception):
    """The server hung up, or answered something else than a stream."""


@dataclass(slots=True)
class Job:
    """One request. `body` is its JSON; `at` when to send it, in seconds from the start (0: at once)."""

    name: str
    body: bytes
    path: str = "/v1/completions"
    at: float = 0.0


@dataclass(slots=True)
class Answer:
    """What came: `times` are of the reads that brought events, in seconds from the start."""

    job: Job
    asked: float
    times: list[float] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    error: str | None = None

    def events(self) -> list[dict[str, Any]]:
        """The stream's events but [DONE], decoded."""
        text = _unchunked(b"".join(self.pieces).partition(b"\r\n\r\n")[2])
        lines = [line for line in text.split(b"\n") if line.startswith(b"data: ")]
        return [json.loads(line[6:]) for line in lines if not line.startswith(_DONE)]

    def text(self) -> str:
        """What was generated for the only choice."""
        return "".join(choice["text"] for event in self.events() for choice in event["choices"])

    @property
    def seconds_to_first(self) -> float:
        return self.times[0] - self.asked

    def gaps(self) -> list[float]:
        """Seconds between two reads that brought events."""
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


def play(
    port: int, jobs: Iterable[Job], *, concurrency: int | None = None, rest: float = 0.0
) -> list[Answer]:
    """Send all jobs and read every answer to its end; those that failed have an `error`.

    With `concurrency` so many are in flight, whatever their `at`: a closed load. Without, each is sent when
    its time has come, in the order given: an open load. `rest` is in seconds.
    """
    return list(stream(port, jobs, concurrency=concurrency, rest=rest))


def stream(
    port: int, jobs: Iterable[Job], *, concurrency: int | None = None, rest: float = 0.0
) -> Iterator[Answer]:
    """As `play`, but each answer when it has ended, so that endless jobs can be read."""
    upcoming = iter(jobs)
    head = next(upcoming, None)
    selector = selectors.DefaultSelector()
    idle: list[socket.socket] = []
    origin = time.perf_counter()
    living = 0
    ended: list[Answer] = []
    try:
        while head is not None or living:
            now = time.perf_counter() - origin
            while head is not None and (living < concurrency if concurrency else head.at <= now):
                connection = _take_open(idle) or _connect(port)
                answer = Answer(head, time.perf_counter() - origin)
                connection.sendall(_request(head))
                selector.register(connection, selectors.EVENT_READ, answer)
                living += 1
                head = next(upcoming, None)
            if rest:
                time.sleep(rest)
            pause = max(0.0, head.at - now) if head is not None and not concurrency else None
            for key, _ in selector.select(pause):
                connection, answer = key.fileobj, key.data
                assert isinstance(connection, socket.socket)
                if _read(connection, answer, origin):
                    selector.unregister(connection)
                    living -= 1
                    connection.close() if answer.error else idle.append(connection)
                    ended.append(answer)
            yield from ended
            ended.clear()
    finally:
        for connection in [*idle, *(key.fileobj for key in selector.get_map().values())]:
            connection.close()
        selector.close()


def request_bytes(path: str, body: bytes) -> bytes:
    """A POST, as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET."""
    with _connect(port) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
        answer = b""
        while data := connection.recv(1 << 16):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    chunked = b"transfer-encoding: chunked" in head.lower()
    return int(head.split()[1]), (_unchunked(body) if chunked else body).decode()


def metrics(port: int, *names: str, prefix: str = "quire") -> dict[str, float]:
    """Sums over the labels of these metrics."""
    found = dict.fromkeys(names, 0.0)
    for line in get(port, "/metrics")[1].splitlines():
        name = line.partition("{")[0].partition(" ")[0].removeprefix(f"{prefix}:")
        if name in found:
            found[name] += float(line.rsplit(" ", 1)[1])
    return found


def _request(job: Job) -> bytes:
    return request_bytes(job.path, job.body)


def _take_open(idle: list[socket.socket]) -> socket.socket | None:
    """One of the connections that wait, which the server has not closed meanwhile; the closed ones go."""
    while idle:
        connection = idle.pop()
        if not select.select([connection], [], [], 0)[0]:
            return connection
        connection.close()  # between answers there is nothing to read but the end
    return None


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _read(connection: socket.socket, answer: Answer, origin: float) -> bool:
    """Take what has come; whether it was the end."""
    try:
        data = connection.recv(1 << 16)
    except OSError as error:
        answer.error = f"{type(error).__name__}: {error}"
        return True
    if not data:
        answer.error = "the server hung up"
        return True
    answer.pieces.append(data)
    if not answer.times and not answer.pieces[0].startswith(b"HTTP/1.1 200"):
        answer.error = answer.pieces[0][:400].decode(errors="replace")
        return True
    if b"data: " in data and not data.startswith(_DONE, data.find(b"data: ")):
        answer.times.append(time.perf_counter() - origin)
    if not data.endswith(_END):
        return False
    if _DONE not in b"".join(answer.pieces[-3:]):
        answer.error = "the stream ended without [DONE]"
    return True


def _unchunked(data: bytes) -> bytes:
    """A chunked body put together."""
    parts: list[bytes] = []
    at = 0
    while at < len(data):
        end = data.index(b"\r\n", at)
        size = int(data[at:end], 16)
        parts.append(data[end + 2 : end + 2 + size])
        at = end + 4 + size
    return b"".join(parts)
