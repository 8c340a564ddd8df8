"""Trace files, read and checked before anything runs: what is wrong is named by file, line and column."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from quire.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceRow:
    """One request of a trace."""

    line: int
    arrival: float
    """Seconds on the trace's own clock; never less than in the row before."""
    prompt: int
    output: int
    """Tokens."""
    blocks: tuple[int, ...] = ()
    """Names of the prompt's blocks by content, where the trace tells which ones requests share."""
    session: str | None = None


class TraceLine:
    """One line of a file, whose fields are asked for by name."""

    def __init__(self, *, path: Path, number: int, fields: Mapping[str, Any]) -> None:
        self.number = number
        self._path = path
        self._fields = fields

    def wrong(self, column: str, what: str) -> UserError:
        """The error that names this place."""
        return UserError(f"{self._path}, line {self.number}, column {column}: {what}")

    @property
    def names(self) -> Iterable[str]:
        """Names of the line's fields."""
        return self._fields

    def text(self, column: str) -> str:
        """A string."""
        value = self.get(column)
        if not isinstance(value, str):
            raise self.wrong(column, f"{value!r}: must be a string")
        return value

    def has(self, column: str) -> bool:
        """Whether the line has that field, and not null."""
        return self._fields.get(column) is not None

    def get(self, column: str) -> Any:
        """The field as it is in the file. Raises UserError if there is none."""
        if column not in self._fields:
            raise self.wrong(column, "is missing")
        return self._fields[column]

    def count(self, column: str, *, least: int = 1) -> int:
        """A whole number of tokens."""
        value = self.get(column)
        try:
            number = float(value)
            if isinstance(value, bool) or number != int(number):
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise self.wrong(column, f"{value!r}: must be a whole number") from None
        if number < least:
            raise self.wrong(column, f"{value!r}: must be at least {least}")
        return int(number)

    def seconds(self, column: str) -> float:
        """A time as a number."""
        value = self.get(column)
        try:
            number = float(value)
            if isinstance(value, bool) or not abs(number) < float("inf"):
                raise ValueError
        except (TypeError, ValueError):
            raise self.wrong(column, f"{value!r}: must be a finite number") from None
        return number

    def counts(self, column: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        value = self.get(column)
        if not isinstance(value, list) or not all(type(each) is int for each in value):
            raise self.wrong(column, "must be a list of whole numbers")
        return tuple(value)


def csv_lines(path: Path, columns: Sequence[str]) -> Iterator[TraceLine]:
    """The lines of a CSV file whose header names `columns`, others besides."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, None)
            if header is None:
                raise UserError(f"{path}: is empty; its first line must name {', '.join(columns)}")
            names = [name.strip().lstrip("\ufeff") for name in header]
            for column in columns:
                if column not in names:
                    raise UserError(
                        f"{path}, line 1, column {column}: is missing; the file has {', '.join(names)}"
                    )
            for row in reader:
                if not row:
                    continue
                line = TraceLine(
                    path=path, number=reader.line_num, fields=dict(zip(names, row, strict=False))
                )
                if len(row) != len(names):
                    column = names[len(row)] if len(row) < len(names) else names[-1]
                    raise line.wrong(column, f"the line has {len(row)} fields, the header {len(names)}")
                yield line
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None


def json_lines(path: Path) -> Iterator[TraceLine]:
    """The objects of a JSONL file; blank lines are passed over."""
    try:
        with open(path, "rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.strip():
                    continue
                try:
                    fields = json.loads(raw)
                except ValueError as error:
                    column, what = getattr(error, "colno", 1), getattr(error, "msg", str(error))
                    cut = "" if raw.endswith(b"\n") else "; the file ends within the line"
                    raise UserError(
                        f"{path}, line {number}, column {column}: is not JSON: {what}{cut}"
                    ) from None
                if not isinstance(fields, dict):
                    raise UserError(f"{path}, line {number}, column 1: must be an object")
                yield TraceLine(path=path, number=number, fields=fields)
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> UserError:
    """The error of a file that the system, or its encoding, keeps from being read."""
    return UserError(
        f"workload.path={str(path)!r}: cannot be read: {getattr(error, 'strerror', None) or error}"
    )


def read_rows(
    lines: Iterable[TraceLine],
    parse: Callable[[TraceLine], TraceRow | None],
    *,
    time_column: str,
    skip: int,
    limit: int | None,
) -> list[TraceRow]:
    """The rows that `parse` makes of lines (None: it passes one over), without the first `skip` and at most
    `limit`. Raises UserError if times go back.
    """
    rows: list[TraceRow] = []
    last: float | None = None
    for line in islice(lines, skip, None):
        if limit is not None and len(rows) >= limit:
            break
        row = parse(line)
        if row is None:
            continue
        if last is not None and row.arrival < last:
            raise line.wrong(
                time_column, "is earlier than in the line before; requests must be in time order"
            )
        last = row.arrival
        rows.append(row)
    return rows
