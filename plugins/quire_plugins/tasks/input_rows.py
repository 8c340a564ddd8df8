"""The rows of an input file, whatever its format: JSON lines, Parquet or csv, by the ending of its name.

A row is told by its index, from 0: the line's in JSON lines, the record's in a table. One that is wrong in
itself is handed on as the reason, so that it fails alone.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quire.errors import UserError
from quire.jobs.jsonl import numbered_lines
from quire_plugins.tasks.input_lines import parse_line

Row = bytes | dict[str, Any] | UserError
"""A line that `parse_row` has yet to read; a record; or why there is none."""

_TEXT_COLUMNS = frozenset({"prompt", "text", "id"})
"""Of a csv file: taken as they are. Cells of other columns are JSON, or else text."""
_JSON_COLUMNS = frozenset({"messages", "prompt_token_ids", "token_ids", "logit_bias", "extra"})
"""Of a Parquet file: lists and objects, as such or as JSON in a string."""


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows and their indices; blank lines are left out. Raises OSError, and UserError for a table that is
    none.
    """
    match path.suffix.lower():
        case ".parquet":
            yield from enumerate(_parquet(path))
        case ".csv":
            yield from enumerate(_csv(path))
        case _:
            for number, raw in numbered_lines(path):
                yield number - 1, raw


def parse_row(row: Row) -> dict[str, Any]:
    """The row as an object. Raises UserError."""
    if isinstance(row, UserError):
        raise row
    return parse_line(row) if isinstance(row, bytes) else row


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            names = reader.fieldnames or []
            if len(set(names)) < len(names):
                raise UserError(f"task.input={str(path)!r}: its first row names a column twice")
            for record in reader:
                yield _csv_row(record)
        except csv.Error as error:
            raise UserError(f"task.input={str(path)!r}: line {reader.line_num} is not csv: {error}") from None


def _csv_row(record: dict[str | None, Any]) -> Row:
    if None in record:
        return UserError(f"has {len(record[None])} cells more than the first row has names")
    try:
        "".join(value for value in record.values() if value).encode()
    except UnicodeEncodeError:
        return UserError("not UTF-8")
    return {
        str(name): value if name in _TEXT_COLUMNS else _json_or_text(value)
        for name, value in record.items()
        if value
    }


def _json_or_text(cell: str) -> Any:
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for record in batch.to_pylist():
                    yield _parquet_row(record)
    except pyarrow.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"task.input={str(path)!r}: cannot be read as Parquet: {reason}") from None


def _parquet_row(record: dict[str, Any]) -> Row:
    row = {name: _plain(name, value) for name, value in record.items()}
    row = {name: value for name, value in row.items() if value is not None}
    for name, value in row.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            return UserError(f"{name}: holds a {type(value).__name__}, which JSON has no form for")
    return row


def _plain(name: str, value: Any) -> Any:
    """Whole numbers as such: a column of integers with gaps is often kept as floats, a gap as not a
    number."""
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return _json_or_text(value) if isinstance(value, str) and name in _JSON_COLUMNS else value
