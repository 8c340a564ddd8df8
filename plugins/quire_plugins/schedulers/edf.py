"""Earliest deadline first (Liu and Layland, "Scheduling Algorithms for Multiprogramming in a Hard-Real-Time
Environment", JACM 1973, section 7), preemptive."""

from __future__ import annotations

from dataclasses import dataclass

from quire.engine.queues import QueueView
from quire.engine.sequence import SequenceView
from quire.engine.step import StepBuilder
from quire.errors import UserError
from quire.interfaces import Scheduler
from quire.scheduling import RankedQueue, serve_by_rank


@dataclass
class EdfConfig:
    """Whether a deadline interrupts others."""

    preempt: bool = True
    """A sequence that waits takes the memory of running ones whose deadlines are later."""


class Edf(Scheduler):
    """The earliest deadline first; requests without one come last, in order of arrival.

    A request's `deadline` is when its last token is wanted. One that has passed when the request arrives is
    refused; one that is missed later changes nothing.
    """

    Config = EdfConfig

    def __init__(self, *, config: EdfConfig) -> None:
        self._preempt = config.preempt
        self._living = RankedQueue()

    def check(self, seq: SequenceView, now: float) -> None:
        if seq.deadline is not None and seq.deadline <= now:
            raise UserError(f"deadline={seq.deadline}: has passed, it is {now:.6f}; must be later")

    def on_arrival(self, seq: SequenceView) -> None:
        self._living.put(seq, float("inf") if seq.deadline is None else seq.deadline)

    def on_finish(self, seq: SequenceView) -> None:
        self._living.discard(seq)

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        serve_by_rank(queues, step, self._living.waiting(), rank=self._living.rank, preempt=self._preempt)
