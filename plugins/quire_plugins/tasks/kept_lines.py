"""What an earlier run left in an output file of one line a result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from quire.errors import UserError
from quire.jobs.jsonl import drop_partial_line


def kept_lines(path: Path, *, beginning: bytes, what: str) -> Iterator[tuple[int, bytes]]:
    """The whole lines of `path`, each with its number, from 1; none if there is no file.

    A last line that a kill cut short is dropped from the file: one that begins with `beginning`, as far as it
    goes, as every line of the task does. Raises UserError for any other without an end, which is no `what`.
    """
    try:
        with open(path, "rb") as file:
            for number, raw in enumerate(file, 1):
                if raw.endswith(b"\n"):
                    yield number, raw
                elif raw.startswith(beginning) or beginning.startswith(raw):
                    drop_partial_line(path)
                else:
                    raise foreign_line(path, number, what)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"task.output={str(path)!r}: cannot be read: {error.strerror}") from None


def foreign_line(path: Path, number: int, what: str) -> UserError:
    """What to raise for a line that this task did not write."""
    return UserError(
        f"task.output={str(path)!r}: line {number} is no {what} of this task; choose another file, or "
        "task.overwrite=true to lose what is in it"
    )
