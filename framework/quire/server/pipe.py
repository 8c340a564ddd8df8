"""The client's end of the way to an engine's process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import msgspec

from quire.server.frames import FrameReader, frame
from quire.server.messages import Command, Reply


class Pipe(asyncio.Protocol):
    """Calls `on_reply` for each message that comes, and `on_lost` once when the other end is gone.

    Writing never waits: what the engine has not read yet is kept by the transport.
    """

    def __init__(self, *, on_reply: Callable[[Reply], None], on_lost: Callable[[], None]) -> None:
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._frames = FrameReader()
        self._decode = msgspec.msgpack.Decoder(Reply).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._transport: asyncio.WriteTransport | None = None

    def send(self, command: Command) -> None:
        """TypeError, ValueError or OverflowError if the command holds what msgpack cannot say."""
        assert self._transport is not None, "the connection is made first"
        self._transport.write(frame(self._encode(command)))

    def close(self) -> None:
        """After what was sent has gone."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's are of no class of asyncio's

    def data_received(self, data: bytes) -> None:
        for payload in self._frames.feed(data):
            self._on_reply(self._decode(payload))

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()
