"""Streams whose next event is late, whose client leaves or takes nothing, and which break."""

import asyncio
import logging

import pytest
from asgi import Wire

from quire.server.client import EngineDead
from quire.server.config import ServerConfig
from quire.server.http.errors import ApiError
from quire.server.http.streaming import EventStream, Last


class Events:
    """A generator that gives an event for each pause, and says when it was closed."""

    def __init__(self, *pauses: float | Exception) -> None:
        self.closed = False
        self._pauses = pauses

    async def __call__(self):
        try:
            for pause in self._pauses:
                if isinstance(pause, Exception):
                    raise pause
                await asyncio.sleep(pause)
                yield b"data: 1\n\n"
        finally:
            self.closed = True


def answer(events: Events, wire: Wire, *, during=None, **options) -> None:
    """Answer with the events; `during` runs beside it."""

    async def both() -> None:
        stream = EventStream(events(), ServerConfig(**options))
        async with asyncio.timeout(10):
            await asyncio.gather(stream(wire.scope, wire.receive, wire.send), *([during()] if during else []))

    asyncio.run(both())


def test_events_in_order_and_an_end():
    events, wire = Events(0, 0, 0), Wire()
    answer(events, wire)
    assert (wire.status, wire.body, wire.ended, events.closed) == (200, b"data: 1\n\n" * 3, True, True)


def test_a_late_event_is_waited_for_with_comments():
    wire = Wire()
    answer(Events(0.5, 0.01), wire, keep_alive_seconds=0.1)
    comments = wire.body.count(b": waiting\n\n")
    assert 2 <= comments <= 5
    assert wire.body == b": waiting\n\n" * comments + b"data: 1\n\n" * 2


def test_what_fails_first_is_raised_for_its_status():
    events, wire = Events(ApiError(400, "no")), Wire()
    with pytest.raises(ApiError):
        answer(events, wire)
    assert wire.sent == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (EngineDead("the engine died"), b"the engine died"),
        (ZeroDivisionError("secret"), b"the server failed"),
    ],
)
def test_what_fails_later_is_an_event(error, message, caplog):
    wire = Wire()
    with caplog.at_level(logging.ERROR):
        answer(Events(0, error), wire)
    head, _, last = wire.body.partition(b"data: 1\n\n")
    assert head == b""
    assert last.startswith(b'data: {"error":{"message":"' + message)
    assert b"secret" not in last
    assert b"DONE" not in last
    assert wire.ended
    assert ("a stream broke" in caplog.text) == isinstance(error, ZeroDivisionError)


def test_a_client_that_hangs_up_closes_the_source_at_once():
    events, wire = Events(0, 60), Wire()

    async def leave() -> None:
        while not wire.sent:
            await asyncio.sleep(0.005)
        wire.hang_up()

    answer(events, wire, during=leave)
    assert events.closed
    assert not wire.ended


def test_a_client_that_takes_nothing_is_dropped():
    events, wire = Events(0, 0, 0, 60), Wire()
    wire.blocked = True
    answer(events, wire, send_seconds=0.1)
    assert events.closed
    assert wire.sent == []


def test_last_events_go_in_one_write_with_the_end_when_all_is_cleaned_up():
    wire, closed = Wire(), []

    async def events():
        try:
            yield b"data: 1\n\n"
            yield Last(b"data: 2\n\n")
        finally:
            await asyncio.sleep(0)
            closed.append([message["type"] for message in wire.sent])

    asyncio.run(EventStream(events(), ServerConfig())(wire.scope, wire.receive, wire.send))
    bodies = [message for message in wire.sent if message["type"] == "http.response.body"]
    assert [(each["body"], each["more_body"]) for each in bodies] == [
        (b"data: 1\n\n", True),
        (b"data: 2\n\n", False),
    ]
    assert closed == [["http.response.start", "http.response.body"]], "before its last events go"


@pytest.mark.parametrize(
    ("pauses", "options"),
    [
        ((0, 0.05), {}),  # blocked from here on: the answer's end
        ((0, 0.05, ZeroDivisionError()), {}),
        ((0, 60), {"keep_alive_seconds": 0.1}),  # the comment
    ],
)
def test_a_client_that_does_not_take_the_end_is_dropped(pauses, options):
    events, wire = Events(*pauses), Wire()

    async def block() -> None:
        while len(wire.sent) < 2:
            await asyncio.sleep(0.001)
        wire.blocked = True

    answer(events, wire, during=block, send_seconds=0.2, **options)
    assert events.closed
    assert not wire.ended
