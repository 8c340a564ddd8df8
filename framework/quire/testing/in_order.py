"""The plainest scheduler, for suites of what else an engine is made of."""

from __future__ import annotations

from quire.engine.queues import QueueView
from quire.engine.step import StepBuilder
from quire.interfaces.scheduler import Scheduler
from quire.scheduling import add_or_preempt


class InOrder(Scheduler):
    """First come, first served."""

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        for seq in queues.running:
            add_or_preempt(seq, queues, step)
        for seq in queues.waiting:
            if not step.add(seq):
                break
