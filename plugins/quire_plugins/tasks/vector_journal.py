"""Vectors computed so far, in a file that survives a kill: records of one size, of which a part is cut off.

| header: JSON and a newline | index, mark, vector | index, mark, vector | ...
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quire.errors import UserError

_MARK_BYTES = 16


class VectorJournal:
    """The vectors of `path`, float32 of `dimensions` numbers each; what `append` returned from is with the
    operating system.
    """

    def __init__(self, path: Path, *, dimensions: int, made_with: Mapping[str, Any]) -> None:
        """Open it, or begin it. Raises OSError, and UserError if it holds vectors made in another way."""
        self._path = path
        self._dtype = np.dtype(
            [("index", "<i8"), ("mark", f"V{_MARK_BYTES}"), ("vector", "<f4", (dimensions,))]
        )
        header = json.dumps({"quire": "vectors", "dimensions": dimensions, **made_with}).encode() + b"\n"
        self._start = len(header)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by `close`
        with open(path, "rb") as file:
            begun = file.read(len(header))
        if not header.startswith(begun):
            self._file.close()
            raise UserError(
                f"task.output: {path} holds vectors of another model or other options: choose another "
                "output, or task.overwrite=true to begin it anew"
            )
        size = os.fstat(self._file.fileno()).st_size
        if size < len(header):
            self._file.truncate(0)
            self._write(header)
        else:
            self._size = size - (size - self._start) % self._dtype.itemsize
            self._file.truncate(self._size)

    def finished(self) -> dict[int, bytes]:
        """Index and mark of each vector there is."""
        records = self.records()
        return {int(record["index"]): record["mark"].tobytes() for record in records}

    def append(self, indices: Sequence[int], marks: Sequence[bytes], vectors_ND: np.ndarray) -> None:
        """Add vectors, all or none of them: OSError leaves the file at its last whole record."""
        records = np.empty(len(indices), dtype=self._dtype)
        records["index"] = indices
        records["mark"] = np.frombuffer(b"".join(marks), dtype=f"V{_MARK_BYTES}")
        records["vector"] = vectors_ND
        self._write(records.tobytes())

    def records(self) -> np.ndarray:
        """All records, read as they are needed, with fields index, mark, vector; in order of completion."""
        count = (self._size - self._start) // self._dtype.itemsize
        if not count:
            return np.empty(0, dtype=self._dtype)
        return np.memmap(self._path, dtype=self._dtype, mode="r", offset=self._start, shape=(count,))

    def close(self) -> None:
        """Idempotent."""
        self._file.close()

    def _write(self, data: bytes) -> None:
        end = os.fstat(self._file.fileno()).st_size
        try:
            written = 0
            while written < len(data):
                written += self._file.write(memoryview(data)[written:])
        except OSError:
            self._file.truncate(end)
            raise
        self._size = end + len(data)
