"""First come, first served, with continuous batching (Orca: Yu et al., 2022, section 3.1; vLLM's order of
preemption: Kwon et al., 2023, section 4.5)."""

from __future__ import annotations

from dataclasses import dataclass

from quire.engine.queues import QueueView
from quire.engine.step import StepBuilder
from quire.interfaces.scheduler import Scheduler
from quire.scheduling import add_or_preempt


@dataclass
class FcfsConfig:
    """It has no options."""


class Fcfs(Scheduler):
    """Continuous batching: running sequences first, then arrivals in order; the latest gives way."""

    Config = FcfsConfig

    def __init__(self, *, config: FcfsConfig) -> None:
        del config

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        running = len(queues.running)
        for seq in queues.running:  # those that hold memory go on first
            add_or_preempt(seq, queues, step)
        if len(queues.running) < running:  # who gave way comes back before anyone later comes in
            return
        for seq in queues.waiting:
            if not step.add(seq):  # the head of the line waits, nobody overtakes
                break
