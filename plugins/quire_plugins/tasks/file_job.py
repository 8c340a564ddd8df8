"""The lines of an input file that are still to do, and what becomes of each."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.engine.request import Request, SamplingParams
from quire.errors import UserError
from quire_plugins.tasks.input_lines import fingerprint, make_request
from quire_plugins.tasks.input_rows import Row, parse_row, read_rows
from quire_plugins.tasks.output_lines import ResultFiles, result_line

if TYPE_CHECKING:
    from quire.jobs.completions import Completion
    from quire.text.tokenizer import Tokenizer


def check_input(
    path: Path,
    finished: Mapping[int, bytes],
    output: Path,
    *,
    fingerprint: Callable[[Mapping[str, Any]], bytes] = fingerprint,
) -> int:
    """How many lines of `path` are still to do. Raises UserError if it cannot be read, is empty, or is not
    the input that the `finished` lines of `output` came from, told by index and `fingerprint`.
    """
    found, matched = 0, 0
    try:
        for index, row in read_rows(path):
            found += 1
            if index in finished:
                _check_same(row, index + 1, finished[index], output, fingerprint)
                matched += 1
    except OSError as error:
        raise UserError(f"task.input={str(path)!r}: cannot be read: {error.strerror}") from None
    if not found:
        raise UserError(f"task.input={str(path)!r}: has no lines")
    if matched < len(finished):
        raise _other_input(output, f"it has lines beyond the {found} of task.input")
    return found - matched


class FileJob:
    """Makes the requests of an input file and writes what they come to; a line fails alone."""

    def __init__(
        self,
        *,
        path: Path,
        finished: Container[int],
        files: ResultFiles,
        tokenizer: Tokenizer,
        defaults: SamplingParams,
        token_ids: bool,
    ) -> None:
        self._path = path
        self._finished = finished
        self._files = files
        self._tokenizer = tokenizer
        self._defaults = defaults
        self._token_ids = token_ids
        self._living: dict[str, tuple[int, dict[str, Any]]] = {}

    def requests(self) -> Iterator[Request]:
        """Those of the lines that are neither finished nor wrong, read as they are asked for."""
        for index, row in read_rows(self._path):
            line: dict[str, Any] = {}
            if index in self._finished:
                continue
            try:
                line = parse_row(row)
                request = make_request(
                    line, id=str(index), tokenizer=self._tokenizer, defaults=self._defaults
                )
            except UserError as error:
                self._files.errors.add(index, line.get("id"), str(error))
                continue
            self._living[request.id] = (index, line)
            yield request

    def finish(self, completions: Iterable[Completion]) -> None:
        """Write the results of requests that ended."""
        results: list[dict[str, Any]] = []
        for completion in completions:
            index, line = self._living.pop(completion.request.id)
            if completion.error is not None:
                self._files.errors.add(index, line.get("id"), completion.error)
                continue
            results.append(
                result_line(index, line, completion, tokenizer=self._tokenizer, token_ids=self._token_ids)
            )
        self._files.write(results)


def _check_same(
    row: Row,
    number: int,
    finished: bytes,
    output: Path,
    fingerprint: Callable[[Mapping[str, Any]], bytes],
) -> None:
    try:
        same = fingerprint(parse_row(row)) == finished
    except UserError:
        same = False
    if not same:
        raise _other_input(output, f"line {number} of task.input has another id or prompt than its result")


def _other_input(output: Path, why: str) -> UserError:
    return UserError(
        f"task.output={str(output)!r}: holds results of another input: {why}; choose another file, or "
        "task.overwrite=true to begin it anew"
    )
