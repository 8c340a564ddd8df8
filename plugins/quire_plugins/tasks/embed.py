"""Vectors for a file of texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.errors import UserError
from quire.interfaces.task import Task
from quire_plugins.tasks.file_job import check_input
from quire_plugins.tasks.input_rows import parse_row, read_rows
from quire_plugins.tasks.output_lines import ErrorLines, writing
from quire_plugins.tasks.tables import forget, input_digest, is_done, write_info

if TYPE_CHECKING:
    from quire.embedding.vectors import Vectors
    from quire.run import Run
    from quire_plugins.tasks.vector_journal import VectorJournal

_SUFFIXES = (".parquet", ".npy")
_BATCHES_AT_ONCE = 4
"""So many batches of texts are sorted by length together; a kill loses at most that much work."""


@dataclass
class EmbedConfig:
    """Options of `task=embed`. How texts become vectors is said by the model's files, or `embedding.*`."""

    input: str = ""
    """JSON lines, or a table whose name ends in .parquet or .csv, with a text or a list of token ids in each
    line or row, and perhaps an `id`; other fields are left alone."""
    output: str | None = None
    """A .parquet file with index, id and vector of each line, in order; or a .npy array of float32 whose
    row i is line i's vector, not-a-number where a line failed; null: vectors.parquet among the run's
    results. It is written at the end; what is done until then is in OUTPUT.partial, what failed in
    OUTPUT.errors.jsonl."""
    overwrite: bool = False
    """Begin OUTPUT anew."""
    column: str = "text"
    """The field or column that holds the texts."""
    prompt: str | None = None
    """The name of one of the model's own prompts, such as query or document, to put before each text."""
    dimensions: int | None = None
    """Keep so many of the first dimensions; null: all."""
    truncate: bool = False
    """Cut texts that are too long; without it such a line fails."""

    def __post_init__(self) -> None:
        if self.output is not None and Path(self.output).suffix.lower() not in _SUFFIXES:
            raise UserError(f"task.output={self.output!r}: must end in {' or '.join(_SUFFIXES)}")
        if self.dimensions is not None and self.dimensions < 1:
            raise UserError(f"task.dimensions={self.dimensions}: must be at least 1")


class EmbedTask(Task):
    """Embeds each text of a file.

    An interrupt, a kill or a full disk keeps the vectors so far; the same command goes on from there.
    """

    Config = EmbedConfig

    def __init__(self, *, config: EmbedConfig) -> None:
        if not config.input:
            raise UserError("task=embed: give task.input=FILE")
        self._config = config

    def run(self, run: Run) -> None:
        path = Path(self._config.input)
        output = Path(self._config.output) if self._config.output else run.directory / "vectors.parquet"
        if path.resolve() == output.resolve():
            raise UserError(f"task.output={str(output)!r}: is the input itself")
        partial = output.with_name(output.name + ".partial")
        check_input(path, {}, output)
        made_with = self._made_with(run)
        made_from = {"input": input_digest(path, self._identity), **made_with}
        if self._config.overwrite:
            with writing(output):
                forget(output)
                partial.unlink(missing_ok=True)
        elif not partial.exists() and is_done(output, made_from):
            run.console.print(f"all vectors are in {output} already", markup=False, soft_wrap=True)
            return
        failed = self._embed(run, path, output, partial, made_with)
        write_info(output, made_from)
        if not failed:
            partial.unlink()

    def _embed(self, run: Run, path: Path, output: Path, partial: Path, made_with: Mapping[str, Any]) -> int:
        """Compute what is missing and write `output`; how many lines failed."""
        from quire.embedding.vectors import Vectors
        from quire.jobs.console import JobProgress
        from quire_plugins.tasks.vector_files import write_vectors
        from quire_plugins.tasks.vector_journal import VectorJournal

        vectors = Vectors(run)
        vectors.embedder.check_dimensions(self._config.dimensions)
        errors = ErrorLines(output)
        with writing(output):
            journal = VectorJournal(
                partial,
                dimensions=self._config.dimensions or vectors.embedder.dimension,
                made_with=made_with,
            )
        with closing(journal), closing(errors):
            finished = journal.finished()
            todo = check_input(path, finished, output, fingerprint=self._identity)
            if finished:
                run.console.print(
                    f"{len(finished)} vectors are in {partial} already", markup=False, soft_wrap=True
                )
            done = 0
            try:
                with JobProgress(run.console, total=todo, label="embedding", unit="texts") as progress:
                    at_once = run.config.embedding.batch_tokens * _BATCHES_AT_ONCE
                    for texts in self._chunks(path, finished, vectors, errors, at_once):
                        self._compute(texts, vectors, journal, output)
                        done += len(texts)
                        tokens = sum(len(text.token_ids) for text in texts)
                        progress.update(done=done + errors.count, tokens=tokens)
            finally:
                left = todo - done - errors.count
                report = f"{done} vectors computed for {output}"
                report += f"; {errors.count} lines failed, see {errors.path}" if errors.count else ""
                report += f"; {left} not done, the same command goes on from there" if left else ""
                run.console.print(report, markup=False, soft_wrap=True)
            write_vectors(output, journal.records(), path)
        return errors.count

    def _compute(self, texts: list[Text], vectors: Vectors, journal: VectorJournal, output: Path) -> None:
        found = vectors.embedder.embed([text.token_ids for text in texts], dimensions=self._config.dimensions)
        with writing(output):
            journal.append([text.index for text in texts], [text.mark for text in texts], found)

    def _chunks(
        self, path: Path, finished: Container[int], vectors: Vectors, errors: ErrorLines, at_once: int
    ) -> Iterator[list[Text]]:
        """Lines that are neither finished nor wrong, about `at_once` tokens of them at a time."""
        chunk: list[Text] = []
        tokens = 0
        for index, row in read_rows(path):
            if index in finished:
                continue
            line: dict[str, Any] = {}
            try:
                line = parse_row(row)
                token_ids = self._token_ids(line, vectors)
                vectors.embedder.check(token_ids)
            except UserError as error:
                errors.add(index, line.get("id"), str(error))
                continue
            chunk.append(Text(index=index, mark=self._identity(line), token_ids=token_ids))
            tokens += len(token_ids)
            if tokens >= at_once:
                yield chunk
                chunk, tokens = [], 0
        if chunk:
            yield chunk

    def _token_ids(self, line: Mapping[str, Any], vectors: Vectors) -> list[int]:
        text = line.get(self._config.column)
        if isinstance(text, str):
            return vectors.texts.encode(text, prompt_name=self._config.prompt, truncate=self._config.truncate)
        if isinstance(text, list) and all(type(token) is int for token in text):
            return text[: vectors.embedder.max_tokens] if self._config.truncate else text
        if text is None:
            raise UserError(f"has no {self._config.column}")
        raise UserError(f"{self._config.column}: must be a text or a list of token ids")

    def _identity(self, line: Mapping[str, Any]) -> bytes:
        """What tells a line from others: its id and text."""
        identity = json.dumps([line.get("id"), line.get(self._config.column)], sort_keys=True)
        return hashlib.blake2b(identity.encode(), digest_size=16).digest()

    def _made_with(self, run: Run) -> dict[str, Any]:
        """All options that vectors depend on."""
        config, embedding = self._config, run.config.embedding
        return {
            "model": run.config.model,
            "dtype": run.config.dtype.value,
            "pooling": None if embedding.pooling is None else embedding.pooling.value,
            "normalize": embedding.normalize,
            "max_tokens": embedding.max_tokens,
            "prompt": config.prompt,
            "dimensions": config.dimensions,
            "truncate": config.truncate,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A line to embed."""

    index: int
    mark: bytes
    token_ids: list[int]
