"""Messages on a stream of bytes: four bytes of length, little endian, then that many of payload."""

from __future__ import annotations

_HEADER = 4


def frame(payload: bytes) -> bytes:
    """What goes over the wire for one message."""
    return len(payload).to_bytes(_HEADER, "little") + payload


class FrameReader:
    """Puts payloads together from whatever pieces arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that `data` completes."""
        if not self._buffer and int.from_bytes(data[:_HEADER], "little") == len(data) - _HEADER:
            return [data[_HEADER:]]  # one frame by itself is what mostly comes
        buffer = self._buffer
        buffer += data
        payloads: list[bytes] = []
        start = 0
        while (begin := start + _HEADER) <= len(buffer):
            end = begin + int.from_bytes(buffer[start:begin], "little")
            if end > len(buffer):
                break
            payloads.append(bytes(buffer[begin:end]))
            start = end
        del buffer[:start]
        return payloads
