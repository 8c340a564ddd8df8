"""What a person sees of a run: a progress bar, or lines where output goes to a file; a table of results."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from quire.engine.engine import Engine

_BAR_SECONDS = 0.25
_LINE_SECONDS = 10.0


class JobProgress:
    """How far a run is: how much is done of `total`, counted in `unit`, and tokens a second.

    On a terminal a bar, redrawn by `update` itself, so that no thread disturbs the engine; elsewhere a line
    every ten seconds.
    """

    def __init__(self, console: Console, *, total: int, label: str, unit: str) -> None:
        self._console = console
        self._label = label
        self._unit = unit
        self._total = total
        self._done = self._tokens = 0
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(label, total=total, state="")

    def __enter__(self) -> Self:
        self._start = self._shown = time.monotonic()
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show()
        self._bar.stop()

    def update(self, *, done: int, tokens: int) -> None:
        """So much is done in all, and so many more tokens computed. Called after each step."""
        self._done = done
        self._tokens += tokens
        every = _BAR_SECONDS if self._console.is_terminal else _LINE_SECONDS
        if time.monotonic() - self._shown >= every:
            self._show()

    def _show(self) -> None:
        self._shown = time.monotonic()
        rate = self._tokens / max(self._shown - self._start, 1e-9)
        state = f"{rate:,.0f} tokens/s{self._queues()}"
        if self._console.is_terminal:
            self._bar.update(self._task, completed=self._done, state=state, refresh=True)
        else:
            self._console.print(f"{self._label}: {self._done}/{self._total} {self._unit}  {state}")

    def _queues(self) -> str:
        return ""


class ServingProgress(JobProgress):
    """Requests done, and how many sequences run and wait."""

    def __init__(self, console: Console, *, engine: Engine, total: int, label: str) -> None:
        super().__init__(console, total=total, label=label, unit="requests")
        self._engine = engine
        self._made = engine.num_generated

    def step(self, *, done: int) -> None:
        """So many requests are done. Called after each step of the engine."""
        made = self._engine.num_generated
        self.update(done=done, tokens=made - self._made)
        self._made = made

    def _queues(self) -> str:
        return f"  {self._engine.num_running} running  {self._engine.num_waiting} waiting"


def results_table(summary: Mapping[str, Any]) -> Table:
    """The metrics of a summary that are looked at first. What is not defined is shown as a dash."""
    table = Table(title=_title(summary), title_justify="left")
    table.add_column("metric")
    for heading in ("total or mean", "p50", "p90", "p99"):
        table.add_column(heading, justify="right")
    for label, shown in _totals(summary):
        table.add_row(label, shown)
    table.add_section()
    for label, name, scale in (
        ("TTFT ms", "ttft_s", 1e3),
        ("TPOT ms", "tpot_s", 1e3),
        ("ITL ms", "itl_s", 1e3),
        ("end to end ms", "e2e_s", 1e3),
        ("queue ms", "queue_s", 1e3),
        ("step ms", "step_s", 1e3),
        ("sequences a step", "step_sequences", 1),
        ("scheduler us a step", "schedule_us", 1),
    ):
        found = summary[name] or {}
        cells = (_number(found.get(key), scale) for key in ("mean", "p50", "p90", "p99"))
        table.add_row(label, *cells)
    return table


def _title(summary: Mapping[str, Any]) -> Text:
    if summary["error"] is not None:
        return Text(f"results until the run failed: {summary['error']}")
    return Text("results until the interrupt" if summary["interrupted"] else "results")


def _totals(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("requests", f"{summary['requests']:,}"),
        ("tokens in", f"{summary['prompt_tokens']:,}"),
        ("tokens out", f"{summary['output_tokens']:,}"),
        ("duration s", _number(summary["duration_s"])),
        ("requests/s", _number(summary["requests_per_s"])),
        ("output tokens/s", _number(summary["output_tokens_per_s"])),
        ("total tokens/s", _number(summary["total_tokens_per_s"])),
        ("preemptions", f"{summary['preemptions']:,}"),
        ("prefix hit rate", _percent(summary["prefix_hit_rate"])),
        ("peak KV use", _percent((summary["kv_use"] or {}).get("max"))),
    ]
    rows += [(f"{how} samples", f"{summary[how]:,}") for how in ("failed", "aborted") if summary[how]]
    if summary["goodput_per_s"] is not None:
        rows.append(("goodput samples/s", _number(summary["goodput_per_s"])))
        rows.append(("within slo", _percent(summary["slo_attainment"])))
    if summary["recomputed_tokens"]:
        rows.append(("recomputed tokens", f"{summary['recomputed_tokens']:,}"))
    if "accuracy" in summary:
        share = _percent(summary["accuracy"])
        rows.append(("answers right", f"{summary['answers_right']} of {summary['answers_known']}, {share}"))
    return rows


def _number(value: float | None, scale: float = 1) -> str:
    if value is None:
        return "–"
    return f"{value * scale:,.{1 if abs(value * scale) >= 100 else 2}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
