"""The output file of a generation: one line a request, appended when it is whole, so that a run can go on."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.errors import UserError
from quire.jobs.jsonl import JsonLinesWriter
from quire_plugins.tasks.input_lines import LABEL_KEYS, PROMPT_KEYS, fingerprint, parse_line
from quire_plugins.tasks.kept_lines import foreign_line, kept_lines

if TYPE_CHECKING:
    from quire.engine.plan import TokenLogprobs
    from quire.jobs.completions import Completion, Sample
    from quire.text.tokenizer import Tokenizer

_BEGINNING = b'{"index": '


def finished_lines(path: Path) -> dict[int, bytes]:
    """Index and fingerprint of the results that an earlier run left in `path`; none if there is no file.

    A last line that a kill cut short is dropped. Raises UserError if the file holds anything else.
    """
    finished: dict[int, bytes] = {}
    for number, raw in kept_lines(path, beginning=_BEGINNING, what="result"):
        result = _parse_result(raw, path, number)
        finished[result["index"]] = fingerprint(result)
    return finished


def result_line(
    index: int, line: Mapping[str, Any], completion: Completion, *, tokenizer: Tokenizer, token_ids: bool
) -> dict[str, Any]:
    """The output line of a completed request; `line` is its input line."""
    result: dict[str, Any] = {"index": index, "id": None}
    result |= {key: line[key] for key in (*LABEL_KEYS, *PROMPT_KEYS) if key in line}
    result["outputs"] = [
        _output(sample, tokenizer=tokenizer, token_ids=token_ids) for sample in completion.samples
    ]
    if completion.request.sampling.prompt_logprobs is not None:
        result["prompt_logprobs"] = _logprobs(completion.samples[0].prompt_logprobs, tokenizer)
    result["usage"] = {
        "prompt_tokens": len(completion.request.prompt_token_ids),
        "output_tokens": sum(len(sample.token_ids) for sample in completion.samples),
    }
    return result


class ErrorLines:
    """What failed, one line each in OUTPUT.errors.jsonl, which begins anew with each run."""

    def __init__(self, output: Path) -> None:
        self.path = output.with_name(output.name + ".errors.jsonl")
        self.count = 0
        self._output = output
        self._writer: JsonLinesWriter | None = None
        with writing(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)

    def add(self, index: int, id: Any, reason: str) -> None:
        """Input line `index` came to nothing. `line` in the file counts from 1, as editors do."""
        with writing(self._output):
            if self._writer is None:
                self._writer = JsonLinesWriter(self.path)
            self._writer.write([{"line": index + 1, "index": index, "id": id, "error": reason}])
        self.count += 1

    def close(self) -> None:
        """Idempotent."""
        if self._writer is not None:
            self._writer.close()


class ResultFiles:
    """Appends results to `path` and what failed to the `errors` of `output`, the name that the user gave."""

    def __init__(self, path: Path, *, overwrite: bool, output: Path) -> None:
        self.errors = ErrorLines(output)
        self.written = 0
        self._output = output
        with writing(output):
            if overwrite:
                path.unlink(missing_ok=True)
            self._results = JsonLinesWriter(path)

    def write(self, results: Iterable[Mapping[str, Any]]) -> None:
        """Append results; with the operating system when this returns."""
        results = list(results)
        with writing(self._output):
            self._results.write(results)
        self.written += len(results)

    def close(self) -> None:
        """Idempotent."""
        self._results.close()
        self.errors.close()


@contextmanager
def writing(output: Path) -> Generator[None]:
    """Turns what the operating system refuses into a UserError that names `output`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"task.output={str(output)!r}: cannot be written: {error.strerror}; the results so far are "
            "whole, and the same command goes on from there"
        ) from None


def _parse_result(raw: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        result = parse_line(raw)
    except UserError:
        raise foreign_line(path, number, "result") from None
    if not isinstance(result.get("index"), int) or "outputs" not in result:
        raise foreign_line(path, number, "result")
    return result


def _output(sample: Sample, *, tokenizer: Tokenizer, token_ids: bool) -> dict[str, Any]:
    assert sample.finish_reason is not None
    output: dict[str, Any] = {"text": sample.text, "finish_reason": sample.finish_reason.value}
    if token_ids:
        output["token_ids"] = sample.token_ids
    if sample.logprobs:
        output["logprobs"] = _logprobs(sample.logprobs, tokenizer)
    return output


def _logprobs(tokens: Iterable[TokenLogprobs], tokenizer: Tokenizer) -> list[dict[str, Any]]:
    return [
        {
            "token_id": token.token_id,
            "token": tokenizer.decode((token.token_id,), skip_special_tokens=False),
            "logprob": token.logprob,
            "rank": token.rank,
            "top": [
                {
                    "token_id": id,
                    "token": tokenizer.decode((id,), skip_special_tokens=False),
                    "logprob": logprob,
                }
                for id, logprob in token.top
            ],
        }
        for token in tokens
    ]
