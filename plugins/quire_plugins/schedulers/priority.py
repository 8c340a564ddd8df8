"""Priorities with ageing: the textbook policy (Silberschatz, Galvin and Gagne, "Operating System Concepts",
10th edition, 2018, section 5.3.4), preemptive."""

from __future__ import annotations

from dataclasses import dataclass

from quire.config.checks import check_not_negative
from quire.engine.queues import QueueView
from quire.engine.sequence import SequenceView
from quire.engine.step import StepBuilder
from quire.interfaces import Scheduler
from quire.scheduling import RankedQueue, serve_by_rank


@dataclass
class PriorityConfig:
    """How much the callers' priorities count."""

    aging: float = 0.1
    """Levels of priority that a sequence gains for each second since it arrived; 0: none."""
    preempt: bool = True
    """A more urgent sequence that waits takes the memory of less urgent ones that run."""

    def __post_init__(self) -> None:
        check_not_negative("scheduler", self, "aging")


class Priority(Scheduler):
    """The most urgent first, those that run and those that wait alike; who waits becomes more urgent.

    With ageing a, a sequence of priority p that came at t is overtaken only by those with p' + a t' < p + a
    t: by nobody who arrives more than (p - p_min) / a seconds after it. So it cannot starve.
    """

    Config = PriorityConfig

    def __init__(self, *, config: PriorityConfig) -> None:
        self._config = config
        self._living = RankedQueue()

    def on_arrival(self, seq: SequenceView) -> None:
        # p - a * (now - arrival) for everyone, less what is the same for everyone: nothing to sort anew.
        self._living.put(seq, seq.priority + self._config.aging * seq.arrival_time)

    def on_finish(self, seq: SequenceView) -> None:
        self._living.discard(seq)

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        serve_by_rank(
            queues, step, self._living.waiting(), rank=self._living.rank, preempt=self._config.preempt
        )
