"""A recorded run: every record goes to the tracker and into the summary, whatever ends it."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from quire.engine.engine import Engine
from quire.engine.outputs import SequenceOutput
from quire.jobs.phases import phases_table
from quire.metrics.phases import report_phases
from quire.metrics.summary import Summary
from quire.metrics.trace import write_trace

if TYPE_CHECKING:
    from quire.run import Run


class Recording:
    """A context: the tracker is started on entry and finished, with the summary, on exit.

    The summary says whether the run was `interrupted`, and the `error` that cut it short, if one did; then
    come the metrics, and what was put into `extra`. It is empty until the exit. With `engine.profile=true`
    it has a `profile`, the console a table of it, and the run's directory a `trace.json`.
    """

    def __init__(self, *, run: Run, engine: Engine) -> None:
        self.extra: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self._run = run
        self._engine = engine
        self._tracker = run.tracker()
        self._metrics = Summary(slo=run.config.slo)

    def take(self, outputs: Iterable[SequenceOutput]) -> None:
        """What a step brought; the steps' own records are taken from the engine."""
        for step in self._engine.take_records():
            self._metrics.add_step(step)
            self._tracker.step(step)
        for output in outputs:
            if output.record is not None:
                self._metrics.add_request(output.record)
                self._tracker.request(output.record)

    def __enter__(self) -> Recording:
        self._engine.take_records()  # what ran before is not part of it
        if self._engine.profile is not None:
            self._engine.profile.reset()
        self._tracker.start(self._run.directory, self._run.description)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.take(())
        self.summary = {
            "interrupted": error is not None,
            "error": f"{type(error).__name__}: {error}" if isinstance(error, Exception) else None,
            **self._metrics.metrics(),
            **self.extra,
        }
        if self._engine.profile is not None and (report := report_phases(self._engine.profile)) is not None:
            self.summary["profile"] = report.to_dict()
            self._run.console.print(phases_table(report))
            write_trace(self._engine.profile, self._run.directory / "trace.json")
        self._tracker.finish(self.summary)
