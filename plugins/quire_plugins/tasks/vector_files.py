"""Vectors as files that others read: a Parquet table or a numpy array, in order of the input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from quire.errors import UserError
from quire_plugins.tasks.input_rows import parse_row, read_rows
from quire_plugins.tasks.tables import replace_whole

_ROWS_AT_ONCE = 4096


def write_vectors(output: Path, records: np.ndarray, source: Path) -> None:
    """Write the `records` of a VectorJournal, made from the rows of `source`, as `output`."""
    order = np.argsort(records["index"], kind="stable")
    ids = dict(_ids(source))
    if output.suffix.lower() == ".npy":
        replace_whole(output, lambda path: _write_npy(path, records, order, rows=max(ids) + 1))
    else:
        replace_whole(output, lambda path: _write_parquet(path, records, order, ids))


def _ids(source: Path) -> Iterator[tuple[int, Any]]:
    for index, row in read_rows(source):
        try:
            yield index, parse_row(row).get("id")
        except UserError:
            yield index, None


def _write_npy(path: Path, records: np.ndarray, order: np.ndarray, *, rows: int) -> None:
    (dimensions,) = records.dtype["vector"].shape
    with open(path, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimensions)}
        np.lib.format.write_array_header_1_0(file, header)
        done = 0
        for first in range(0, rows, _ROWS_AT_ONCE):
            block = np.full((min(_ROWS_AT_ONCE, rows - first), dimensions), np.nan, dtype="<f4")
            end = done + np.searchsorted(records["index"][order[done:]], first + len(block))
            some = records[order[done:end]]
            block[some["index"] - first] = some["vector"]
            file.write(block.tobytes())
            done = end


def _write_parquet(path: Path, records: np.ndarray, order: np.ndarray, ids: dict[int, Any]) -> None:
    import pyarrow
    from pyarrow import parquet

    (dimensions,) = records.dtype["vector"].shape
    vector = pyarrow.list_(pyarrow.float32(), dimensions)
    schema = pyarrow.schema([("index", pyarrow.int64()), ("id", pyarrow.string()), ("vector", vector)])
    with parquet.ParquetWriter(path, schema) as writer:
        for first in range(0, len(order), _ROWS_AT_ONCE):
            some = records[order[first : first + _ROWS_AT_ONCE]]
            flat = pyarrow.array(np.ascontiguousarray(some["vector"]).reshape(-1))
            columns = [
                pyarrow.array(some["index"]),
                pyarrow.array([_text(ids[int(index)]) for index in some["index"]], pyarrow.string()),
                pyarrow.FixedSizeListArray.from_arrays(flat, type=vector),
            ]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))


def _text(id: Any) -> str | None:
    return None if id is None else str(id).encode(errors="backslashreplace").decode()
