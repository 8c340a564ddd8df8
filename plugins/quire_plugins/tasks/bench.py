"""Serve a workload, measure it: the main job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from quire.errors import UserError
from quire.interfaces.task import Task
from quire.interfaces.workload import Workload

if TYPE_CHECKING:
    from rich.table import Table

    from quire.engine.request import Request
    from quire.engine.sequence import FinishReason
    from quire.jobs.completions import Completion, Completions
    from quire.jobs.feed import Follow
    from quire.run import Run
    from quire.text.tokenizer import Tokenizer

_PROMPT_SHOWN = 240
"""Characters of a prompt that are shown, its last."""


@dataclass
class BenchConfig:
    """Options of `task=bench`."""

    warmup: bool = True
    """Serve one short request first that is not measured, so that nothing measured happens for the first
    time."""
    show: int = 3
    """How many of the first requests to end are shown with what was generated, where there is text."""

    def __post_init__(self) -> None:
        if self.show < 0:
            raise UserError(f"task.show={self.show}: must be at least 0")


class BenchTask(Task):
    """Serves the workload, its requests arriving over time, and reports latencies and throughput.

    An interrupt keeps the results so far: the files, the summary (which says so) and the table.
    """

    Config = BenchConfig

    def __init__(self, *, config: BenchConfig) -> None:
        self._config = config

    def run(self, run: Run) -> None:
        from quire.jobs.completions import Completions
        from quire.jobs.console import ServingProgress, results_table
        from quire.jobs.feed import serve
        from quire.jobs.recording import Recording
        from quire.jobs.warm_up import warm_up

        workload = run.workload()
        tokenizer = run.tokenizer if workload.uses_text else None
        total = len(workload)  # a file of the workload's is read, and refused, before a model is loaded
        doing = "simulating" if run.is_virtual else "loading"
        run.console.print(f"{doing} model {run.config.model}", markup=False)
        with closing(run.engine(with_text=workload.uses_text)) as engine:
            requests = run.requests(workload, engine)
            first = next(requests, None)
            if first is not None:
                requests = chain((first,), requests)
                if self._config.warmup:
                    warm_up(engine, tenant=first.tenant)
            recording = Recording(run=run, engine=engine)
            progress = ServingProgress(run.console, engine=engine, total=total, label="serving")
            completions, findings = Completions(), Findings(workload=workload, shown=self._config.show)
            follow = _follow(workload, completions) if workload.reacts else None
            notes: dict[str, Any] = {}
            try:
                with recording, progress:
                    try:
                        for outputs in serve(engine, completions.watch(requests), follow=follow, whole=True):
                            recording.take(outputs)
                            findings.add(completions.take(outputs))
                            progress.step(done=findings.ended)
                    finally:
                        notes = dict(workload.notes())
                        recording.extra = {**findings.scores(), **({"workload": notes} if notes else {})}
            finally:
                if recording.summary:
                    if tokenizer is not None and findings.first:
                        run.console.print(_samples_table(findings.first, tokenizer))
                    run.console.print(results_table(recording.summary))
                    if findings.first_error is not None:
                        run.console.print(f"first failure: {findings.first_error}", markup=False)
                    for name, value in notes.items():
                        run.console.print(f"workload: {name.replace('_', ' ')}: {value}", markup=False)
                    run.console.print(f"results are in {run.directory}", markup=False, soft_wrap=True)


class Findings:
    """What the outputs say beyond their timing: right answers, a few examples, the first failure."""

    def __init__(self, *, workload: Workload, shown: int) -> None:
        self.ended = 0
        self.first: list[Completion] = []
        self.first_error: str | None = None
        self._workload = workload
        self._shown = shown
        self._answers = [0, 0]

    def add(self, ended: list[Completion]) -> None:
        """Requests that ended, those that failed among them."""
        self.ended += len(ended)
        for completion in ended:
            if completion.error is not None:
                self.first_error = self.first_error or completion.error
                continue
            if len(self.first) < self._shown:
                self.first.append(completion)
            for sample in completion.samples:
                solved = self._workload.solved(completion.request.id, sample.text)
                if solved is not None:
                    self._answers[solved] += 1

    def scores(self) -> dict[str, Any]:
        """Accuracy over the samples whose right answer is known; empty if there are none."""
        wrong, right = self._answers
        if not wrong + right:
            return {}
        return {"answers_right": right, "answers_known": wrong + right, "accuracy": right / (wrong + right)}


def _follow(workload: Workload, completions: Completions) -> Follow:
    """What the end of a request sets off, remembered like the requests of the stream."""

    def follow(
        request: Request, token_ids: Sequence[int], reason: FinishReason, now: float
    ) -> Iterable[Request]:
        return completions.watch(workload.on_end(request, token_ids, reason, now))

    return follow


def _samples_table(completions: list[Completion], tokenizer: Tokenizer) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="what was generated", title_justify="left", show_lines=True)
    table.add_column("request")
    table.add_column("prompt", overflow="fold", ratio=1)
    table.add_column("output", overflow="fold", ratio=1)
    for completion in completions:
        prompt = tokenizer.decode(completion.request.prompt_token_ids).strip()
        if len(prompt) > _PROMPT_SHOWN:
            prompt = "…" + prompt[-_PROMPT_SHOWN:]
        table.add_row(completion.request.id, Text(prompt), Text(completion.samples[0].text.strip()))
    return table
