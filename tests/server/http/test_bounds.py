"""Bodies that are too large or too slow, and too many requests at once: refused before they are parsed."""

import asyncio
import json
import socket

import httpx
import pytest
from asgi import Wire, part
from live_server import LiveServer

from quire.server.config import ServerConfig
from quire.server.http.bounds import Bounds


async def echo(scope, receive, send) -> None:
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"], "more_body": False})


def pass_through(wire: Wire, app=echo, **options) -> None:
    asyncio.run(
        asyncio.wait_for(Bounds(app, config=ServerConfig(**options))(wire.scope, wire.receive, wire.send), 10)
    )


def error_code(wire: Wire) -> str:
    return json.loads(wire.body)["error"]["code"]


@pytest.mark.parametrize("parts", [[b"0123456789"], [b"01234", b"56789"], [b"", b"0123456789", b""]])
def test_a_body_in_parts_is_handed_on_whole(parts):
    wire = Wire(*(part(each, i < len(parts) - 1) for i, each in enumerate(parts)))
    pass_through(wire, max_body="10")
    assert (wire.status, wire.body) == (200, b"0123456789")


def test_a_declared_length_is_refused_before_anything_is_read():
    wire = Wire(part(b"", False), headers=[("content-length", "11")])
    pass_through(wire, max_body="10")
    assert (wire.status, error_code(wire)) == (413, "body_too_large")


def test_a_length_that_is_not_declared_is_refused_while_reading():
    async def large() -> Wire:
        wire = Wire(part(b"0123456789", True), part(b"0", True))
        task = asyncio.create_task(
            Bounds(echo, config=ServerConfig(max_body="10"))(wire.scope, wire.receive, wire.send)
        )
        while len(wire.sent) < 2:
            await asyncio.sleep(0.005)
        assert not task.done()  # the answer is there; the client may finish
        wire.say(part(b"", False))
        await task
        return wire

    wire = asyncio.run(large())
    assert (wire.status, error_code(wire), wire.ended) == (413, "body_too_large", True)


def test_a_body_that_does_not_come_is_not_waited_for():
    wire = Wire(part(b"01", True))
    pass_through(wire, body_seconds=0.1)
    assert (wire.status, error_code(wire)) == (408, "body_timeout")


def test_a_client_that_leaves_while_it_sends_gets_no_answer():
    wire = Wire(part(b"01", True), {"type": "http.disconnect"})
    pass_through(wire)
    assert wire.sent == []


def test_too_many_at_once():
    async def three() -> list[Wire]:
        release = asyncio.Event()

        async def wait(scope, receive, send) -> None:
            await release.wait()
            await echo(scope, receive, send)

        bounds = Bounds(wait, config=ServerConfig(max_concurrent=2))
        wires = [Wire(part(b"a", False)) for _ in range(3)]
        tasks = [asyncio.create_task(bounds(w.scope, w.receive, w.send)) for w in wires]
        await asyncio.wait_for(tasks[2], 5)
        release.set()
        await asyncio.gather(*tasks)
        again = Wire(part(b"a", False))
        await bounds(again.scope, again.receive, again.send)
        return [*wires, again]

    first, second, third, again = asyncio.run(three())
    assert [wire.status for wire in (first, second, third, again)] == [200, 200, 429, 200]
    assert (b"retry-after", b"1") in third.sent[0]["headers"]


def test_a_hundred_megabytes_get_their_answer(tmp_path):
    with (
        LiveServer(tmp_path, max_body="1MiB") as server,
        socket.create_connection(("127.0.0.1", server.port)) as sock,
    ):
        head = "POST /v1/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        sock.sendall(head.encode())
        block = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        for _ in range(100):
            sock.sendall(block)
        sock.sendall(b"0\r\n\r\n")
        answer = sock.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"body_too_large" in answer
        assert httpx.get(f"{server.url}/health").status_code == 200
