"""JSON lines that survive a kill: whole lines are appended, and a line cut short is recognised."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


class JsonLinesWriter:
    """Appends objects to a file, one a line; what `write` returned from is with the operating system.

    If a write fails (the disk is full), the file is cut back to its last whole line and the OSError raised.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by `close`
        self._size = os.fstat(self._file.fileno()).st_size

    def write(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Append `lines`, all or none of them."""
        self.append(b"".join(_encode(line) for line in lines))

    def append(self, data: bytes) -> None:
        """Append whole lines that are encoded already, all or none of them."""
        try:
            written = 0
            while written < len(data):
                written += self._file.write(memoryview(data)[written:])
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(data)

    def close(self) -> None:
        """Idempotent."""
        self._file.close()


def _encode(line: Mapping[str, Any]) -> bytes:
    # a lone surrogate, which UTF-8 has no bytes for, becomes the escape that JSON has for it
    return json.dumps(line, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


def drop_partial_line(path: Path) -> None:
    """Cut off a last line that does not end, as a killed writer leaves it."""
    with open(path, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            end = start
        file.truncate(0)


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, undecoded, each with its number, from 1."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line
