"""Results as a table, Parquet or csv, made from the journal of JSON lines that a run can go on from.

While a run lasts its results are in OUTPUT.partial.jsonl. At the end the table is written beside it and takes
its place in one step, so that OUTPUT is whole whenever it exists; OUTPUT.info.json tells which input it
belongs to. The journal stays for as long as lines that failed may be tried again.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from quire.errors import UserError
from quire_plugins.tasks.input_rows import Row, parse_row, read_rows
from quire_plugins.tasks.output_lines import writing

_COLUMNS = (
    ("index", "int64"),
    ("sample", "int64"),
    ("id", "string"),
    ("metadata", "json"),
    ("prompt", "string"),
    ("messages", "json"),
    ("prompt_token_ids", "integers"),
    ("text", "string"),
    ("finish_reason", "string"),
    ("token_ids", "integers"),
    ("logprobs", "json"),
    ("prompt_logprobs", "json"),
    ("prompt_tokens", "int64"),
    ("output_tokens", "int64"),
)
"""One row a sample. `json` is text that holds JSON; the token counts are the whole request's."""
_ROWS_AT_ONCE = 1024


def is_table(output: Path) -> bool:
    """Whether the name asks for a table rather than JSON lines."""
    return output.suffix.lower() in (".parquet", ".csv")


def journal_of(output: Path) -> Path:
    """Where results are until the table is written."""
    return output.with_name(output.name + ".partial.jsonl")


def info_of(output: Path) -> Path:
    """Where it is said what the table was made from."""
    return output.with_name(output.name + ".info.json")


def write_table(journal: Path, output: Path, info: Mapping[str, Any]) -> None:
    """Write the results in `journal`, in order of the input, as `output`."""
    rows = (row for result in _in_order(journal) for row in _rows(result))
    write = _write_parquet if output.suffix.lower() == ".parquet" else _write_csv
    replace_whole(output, lambda path: write(path, rows))
    write_info(output, info)


def replace_whole(output: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `output` that takes its place when it is whole."""
    temporary = output.with_name(output.name + ".tmp")
    try:
        with writing(output):
            write(temporary)
            os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)


def write_info(output: Path, info: Mapping[str, Any]) -> None:
    """Say what `output` was made from."""
    replace_whole(info_of(output), lambda path: path.write_text(json.dumps(info, indent=2) + "\n"))


def forget(output: Path) -> None:
    """Remove what an earlier run left."""
    for path in (output, info_of(output)):
        path.unlink(missing_ok=True)


def is_done(output: Path, made_from: Mapping[str, Any]) -> bool:
    """Whether `output` is there, from the same input and options. Raises UserError if from others."""
    if not output.exists():
        return False
    try:
        info = json.loads(info_of(output).read_text())
    except (OSError, ValueError):
        info = {}
    different = [name for name, value in made_from.items() if info.get(name) != value]
    if different:
        raise UserError(
            f"task.output={str(output)!r}: exists and was made with another {different[0]}; choose another "
            "file, or task.overwrite=true to lose what is in it"
        )
    return True


def input_digest(path: Path, fingerprint: Callable[[Mapping[str, Any]], bytes]) -> str:
    """What tells an input from others: all its rows that can be read, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for index, row in read_rows(path):
        digest.update(index.to_bytes(8, "little"))
        digest.update(_mark(row, fingerprint))
    return digest.hexdigest()


def _mark(row: Row, fingerprint: Callable[[Mapping[str, Any]], bytes]) -> bytes:
    try:
        return fingerprint(parse_row(row))
    except UserError:
        return b"-"


def _in_order(journal: Path) -> Iterator[dict[str, Any]]:
    with open(journal, "rb") as file:
        places: list[tuple[int, int]] = []
        offset = 0
        for raw in file:
            places.append((json.loads(raw)["index"], offset))
            offset += len(raw)
        for _, offset in sorted(places):
            file.seek(offset)
            yield json.loads(file.readline())


def _rows(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    shared = {**result, **result["usage"]}
    for sample, output in enumerate(result["outputs"]):
        values = shared | {"sample": sample} | output
        yield {name: _value(kind, values.get(name)) for name, kind in _COLUMNS}


def _value(kind: str, value: Any) -> Any:
    if value is None or kind in ("int64", "integers"):
        return value
    text = json.dumps(value) if kind == "json" else str(value)
    return text.encode(errors="backslashreplace").decode()


def _write_parquet(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    types = {
        "int64": pyarrow.int64(),
        "string": pyarrow.string(),
        "json": pyarrow.string(),
        "integers": pyarrow.list_(pyarrow.int64()),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in _COLUMNS])
    with parquet.ParquetWriter(path, schema) as writer:
        for some in _chunks(rows):
            writer.write_table(pyarrow.Table.from_pylist(some, schema=schema))


def _write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [name for name, _ in _COLUMNS])
        writer.writeheader()
        for row in rows:
            lists = {name: json.dumps(value) for name, value in row.items() if isinstance(value, list)}
            writer.writerow(row | lists)


def _chunks(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _ROWS_AT_ONCE:
            yield chunk
            chunk = []
    yield chunk
