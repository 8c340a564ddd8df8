"""Generate text for a file of prompts, or for one prompt."""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.engine.request import Request, SamplingParams
from quire.errors import UserError
from quire.interfaces.task import Task
from quire.jobs.sampling_fields import sampling_from_json
from quire_plugins.tasks.file_job import FileJob, check_input
from quire_plugins.tasks.input_lines import fingerprint
from quire_plugins.tasks.output_lines import ResultFiles, finished_lines
from quire_plugins.tasks.tables import forget, input_digest, is_done, is_table, journal_of, write_table

if TYPE_CHECKING:
    from quire.jobs.completions import Completion
    from quire.run import Run

_READ_AHEAD = 256
"""Requests that wait at most: a longer input is read as it is needed."""


@dataclass
class GenerateConfig:
    """Options of `task=generate`. Sampling parameters are defaults, which a line of the input overrides."""

    input: str | None = None
    """JSON lines, or a table whose name ends in .parquet or .csv. Each line or row has a `prompt`, or
    `messages` for the chat template, or `prompt_token_ids`; besides, an `id`, any `metadata`, and sampling
    parameters of its own."""
    output: str | None = None
    """Results as JSON lines in order of completion (`index` is the input line's, from 0); or, by the ending
    of the name, as a .parquet or .csv table in order of the input, one row a sample, written at the end;
    null: outputs.jsonl among the run's results. What failed is in OUTPUT.errors.jsonl. What is done already
    is not done again."""
    overwrite: bool = False
    """Begin OUTPUT anew."""
    token_ids: bool = False
    """Write token ids besides text."""
    prompt: str | None = None
    """One prompt, continued on the console, in place of an input."""
    temperature: float = 0.0
    """0: greedy, the most probable token."""
    top_k: int | None = None
    """Keep the k most probable tokens; null: all."""
    top_p: float = 1.0
    """Keep the smallest set of tokens whose probability reaches it."""
    min_p: float = 0.0
    """Drop tokens below this fraction of the largest probability."""
    repetition_penalty: float = 1.0
    """Over prompt and output; 1: none."""
    presence_penalty: float = 0.0
    """Subtracted once from the logits of tokens in the output."""
    frequency_penalty: float = 0.0
    """Subtracted for each time that a token is in the output."""
    logit_bias: dict[int, float] = field(default_factory=dict)
    """Token id: number added to its logit."""
    allowed_token_ids: list[int] | None = None
    """Nothing else is sampled; null: everything may be."""
    bad_token_ids: list[int] = field(default_factory=list)
    """Never sampled."""
    seed: int | None = None
    """What the draws derive from; null: the run's seed and the line's index."""
    n: int = 1
    """Samples of each prompt."""
    max_tokens: int | None = 256
    """Output tokens at most; null: as many as the model's length and the KV memory allow."""
    min_tokens: int = 0
    """Output tokens at least."""
    stop: list[str] = field(default_factory=list)
    """Strings that end the output; they are cut from it."""
    stop_token_ids: list[int] = field(default_factory=list)
    """Token ids that end the output, besides the model's own."""
    ignore_eos: bool = False
    """Go on after the model's end of sequence."""
    logprobs: int | None = None
    """Write each token's log probability, and that many of the most probable."""
    prompt_logprobs: int | None = None
    """The same for the tokens of the prompt."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Parameters of further logits processors, by name."""

    def __post_init__(self) -> None:
        self.sampling()

    def sampling(self) -> SamplingParams:
        """The sampling parameters among the options."""
        names = {each.name for each in dataclasses.fields(SamplingParams)}
        try:
            return sampling_from_json(
                {name: value for name, value in vars(self).items() if name in names}, SamplingParams()
            )
        except UserError as error:
            raise UserError(f"task.{error}") from None


class GenerateTask(Task):
    """Continues each prompt of a file, or one prompt on the console.

    An interrupt, a kill or a full disk keeps the lines finished so far; the same command goes on from there.
    """

    Config = GenerateConfig

    def __init__(self, *, config: GenerateConfig) -> None:
        if (config.input is None) == (config.prompt is None):
            raise UserError("task=generate: give either task.input=FILE or task.prompt=TEXT")
        if config.prompt is not None and config.output is not None:
            raise UserError(
                f"task.output={config.output!r}: task.prompt is answered on the console; use task.input"
            )
        self._config = config

    def run(self, run: Run) -> None:
        if self._config.prompt is not None:
            self._answer(run, self._config.prompt)
            return
        assert self._config.input is not None
        path = Path(self._config.input)
        output = Path(self._config.output) if self._config.output else run.directory / "outputs.jsonl"
        if path.resolve() == output.resolve():
            raise UserError(f"task.output={str(output)!r}: is the input itself")
        journal = journal_of(output) if is_table(output) else output
        if is_table(output) and self._has_table(run, path, output, journal):
            return
        finished = {} if self._config.overwrite else finished_lines(journal)
        todo = check_input(path, finished, output)
        if finished:
            run.console.print(
                f"{len(finished)} results are in {journal} already", markup=False, soft_wrap=True
            )
        failed = self._complete(run, path, journal, output, finished, todo) if todo else 0
        if is_table(output):
            write_table(journal, output, {"input": input_digest(path, fingerprint)})
            if not failed:
                journal.unlink()

    def _has_table(self, run: Run, path: Path, output: Path, journal: Path) -> bool:
        """Whether the table is there already, with nothing left to try again."""
        if self._config.overwrite:
            forget(output)
            return False
        check_input(path, {}, output)
        if journal.exists() or not is_done(output, {"input": input_digest(path, fingerprint)}):
            return False
        run.console.print(f"all results are in {output} already", markup=False, soft_wrap=True)
        return True

    def _complete(
        self, run: Run, path: Path, journal: Path, output: Path, finished: Container[int], todo: int
    ) -> int:
        """Do the lines of `path` that are not finished, `todo` in number; how many of them failed."""
        from quire.jobs.completions import Completions
        from quire.jobs.console import ServingProgress
        from quire.jobs.feed import serve
        from quire.jobs.recording import Recording

        completions = Completions()
        with (
            closing(run.engine()) as engine,
            closing(ResultFiles(journal, overwrite=self._config.overwrite, output=output)) as files,
        ):
            job = FileJob(
                path=path,
                finished=finished,
                files=files,
                tokenizer=run.tokenizer,
                defaults=self._config.sampling(),
                token_ids=self._config.token_ids,
            )
            progress = ServingProgress(run.console, engine=engine, total=todo, label="generating")
            ahead = max(_READ_AHEAD, run.config.engine.max_sequences)
            try:
                with Recording(run=run, engine=engine) as recording, progress:
                    for outputs in serve(
                        engine, completions.watch(job.requests()), max_waiting=ahead, whole=True
                    ):
                        recording.take(outputs)
                        job.finish(completions.take(outputs))
                        progress.step(done=files.written + files.errors.count)
                    progress.step(done=files.written + files.errors.count)
            finally:
                left = todo - files.written - files.errors.count
                report = f"{files.written} results written to {journal}"
                report += (
                    f"; {files.errors.count} failed, see {files.errors.path}" if files.errors.count else ""
                )
                report += f"; {left} not done" if left else ""
                report += ", the same command goes on from there" if left and self._config.output else ""
                run.console.print(report, markup=False, soft_wrap=True)
        return files.errors.count

    def _answer(self, run: Run, prompt: str) -> None:
        """Continue one prompt on the console, as it comes where there is one sample."""
        from quire.jobs.completions import Completions
        from quire.jobs.feed import serve
        from quire.jobs.recording import Recording

        sampling, completions = self._config.sampling(), Completions()
        ended: list[Completion] = []
        screen = run.console.file  # as it is: the console would drop control characters
        with closing(run.engine()) as engine:
            request = Request(
                id="prompt", prompt_token_ids=tuple(run.tokenizer.encode(prompt)), sampling=sampling
            )
            with Recording(run=run, engine=engine) as recording:
                for outputs in serve(engine, completions.watch([request])):
                    recording.take(outputs)
                    ended += completions.take(outputs)
                    if sampling.n == 1:
                        print(*(output.text for output in outputs), sep="", end="", file=screen, flush=True)
        (completion,) = ended
        if completion.error is not None:
            raise UserError(completion.error)
        if sampling.n == 1:
            print(file=screen)
            return
        for index, sample in enumerate(completion.samples):
            run.console.rule(f"sample {index}", align="left")
            print(sample.text, file=screen)
