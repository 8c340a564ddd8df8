"""A step under way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from quire.engine.plan import Row, RowResult, StepPlan, StepResult
from quire.engine.sequence import Sequence, Status
from quire.engine.step import Entry
from quire.interfaces.allocator import KVStats


@dataclass(slots=True)
class Preemptions:
    """How many there were since the step before was submitted."""

    total: int = 0
    swapped: int = 0
    swap_fallbacks: int = 0


@dataclass(kw_only=True, slots=True)
class Flight:
    """A submitted step: what is needed to commit it."""

    plan: StepPlan
    entries: tuple[Entry, ...]
    epochs: tuple[int, ...]
    """Preemptions of each sequence when it was submitted: a later one makes its result stale."""
    start: float
    schedule_seconds: float
    preemptions: Preemptions
    """Those that its record is to report."""
    kv: KVStats
    """With what this step holds; its commit may free some of it."""

    def living(self) -> Iterator[Sequence]:
        """The sequences that still run, and have run without a break since this step was submitted."""
        for entry, epoch in zip(self.entries, self.epochs, strict=True):
            if _lives(entry.sequence, epoch):
                yield entry.sequence

    def landing(self, result: StepResult) -> Iterator[tuple[Sequence, Row, RowResult]]:
        """Those sequences, each with its row and what it came to."""
        for entry, epoch, row, outcome in zip(
            self.entries, self.epochs, self.plan.rows, result.rows, strict=True
        ):
            if _lives(entry.sequence, epoch):
                yield entry.sequence, row, outcome


def _lives(sequence: Sequence, epoch: int) -> bool:
    return sequence.status is Status.RUNNING and sequence.num_preemptions == epoch
