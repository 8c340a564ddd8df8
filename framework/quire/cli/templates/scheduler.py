"""The most urgent first; whoever waits becomes more urgent."""

from __future__ import annotations

from dataclasses import dataclass

from quire.engine.queues import QueueView
from quire.engine.sequence import SequenceView
from quire.engine.step import StepBuilder
from quire.errors import UserError
from quire.interfaces import Scheduler
from quire.scheduling import add_or_preempt


@dataclass
class NewPluginConfig:
    """Options of `scheduler=new_plugin`."""

    aging: float = 0.1
    """How much more urgent a second of waiting makes a sequence; 0: not at all."""

    def __post_init__(self) -> None:
        if not self.aging >= 0:
            raise UserError(f"scheduler.aging={self.aging}: must be at least 0")


class NewPlugin(Scheduler):
    """Running sequences go on; of those that wait, the most urgent starts first."""

    Config = NewPluginConfig

    def __init__(self, *, config: NewPluginConfig) -> None:
        self._aging = config.aging

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        def urgency(seq: SequenceView) -> float:  # the smaller the more urgent, as priorities are
            return seq.priority - self._aging * (queues.now - seq.arrival_time)

        for seq in queues.running:  # in order of arrival; where memory lacks, a later one gives way
            add_or_preempt(seq, queues, step)
        for seq in sorted(queues.waiting, key=urgency):
            if not step.add(seq):
                break
