"""Shortest prompt first: what takes the least time holds up the fewest."""

from dataclasses import dataclass

from quire.interfaces import Scheduler
from quire.scheduling import add_or_preempt


@dataclass
class ShortestConfig:
    aging: float = 100.0
    """Tokens by which a prompt counts as shorter for each second that it has waited."""


class Shortest(Scheduler):
    """Of the prompts that wait, the shortest starts first."""

    Config = ShortestConfig

    def __init__(self, *, config):
        self.aging = config.aging

    def schedule(self, queues, step):
        def length(seq):
            return seq.num_tokens - self.aging * (queues.now - seq.arrival_time)

        for seq in queues.running:  # those that hold memory go on first
            add_or_preempt(seq, queues, step)
        for seq in sorted(queues.waiting, key=length):
            if not step.add(seq):  # what does not fit is not overtaken
                break
