"""The engine's end of the way to its client."""

from __future__ import annotations

import selectors
import socket
from abc import ABC, abstractmethod

import msgspec

from quire.server.frames import FrameReader, frame
from quire.server.messages import Command, Reply


class LinkClosed(Exception):
    """The client is gone."""


class Link(ABC):
    """Commands come in, replies go out; neither ever waits for a client that is slow."""

    @abstractmethod
    def receive(self, *, wait: bool) -> list[Command]:
        """The commands that have come. With `wait` at least one: sleeps until it is there.

        Raises LinkClosed if the client is gone.
        """

    @abstractmethod
    def send(self, reply: Reply) -> None:
        """Send, or keep until the client reads again: at most what living requests may still bring."""


class SocketLink(Link):
    """One end of a socket pair, the other in the parent process."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._frames = FrameReader()
        self._decode = msgspec.msgpack.Decoder(Command).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._backlog = bytearray()
        """What the client has not taken yet."""
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ)

    def receive(self, *, wait: bool) -> list[Command]:
        self._flush()
        commands: list[Command] = []
        while True:
            try:
                data = self._sock.recv(1 << 18)
            except BlockingIOError:
                if commands or not wait:
                    return commands
                self._sleep()
                continue
            except ConnectionError as error:
                raise LinkClosed from error
            if not data:
                raise LinkClosed
            commands += map(self._decode, self._frames.feed(data))

    def send(self, reply: Reply) -> None:
        self._backlog += frame(self._encode(reply))
        self._flush()

    def flush(self, seconds: float) -> None:
        """Before the end: give the client that long to take what is left."""
        self._sock.settimeout(seconds)
        try:
            self._sock.sendall(self._backlog)
        except OSError:  # it does not read any more, so it does not miss anything
            pass
        self._backlog.clear()

    def _flush(self) -> None:
        if not self._backlog:
            return
        try:
            del self._backlog[: self._sock.send(self._backlog)]
        except BlockingIOError:
            pass
        except ConnectionError as error:
            raise LinkClosed from error

    def _sleep(self) -> None:
        """Until something has come, or there is room for what is kept."""
        room = selectors.EVENT_WRITE if self._backlog else 0
        self._selector.modify(self._sock, selectors.EVENT_READ | room)
        self._selector.select()
        self._flush()
