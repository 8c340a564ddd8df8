"""Learning to rank (Fu et al., "Efficient LLM Scheduling by Learning to Rank", NeurIPS 2024, section 4): by
predicted rank alone, with the paper's prevention of starvation."""

from __future__ import annotations

from dataclasses import dataclass

from quire.engine.queues import QueueView
from quire.engine.sequence import SequenceView
from quire.engine.step import StepBuilder
from quire.errors import UserError
from quire.interfaces import LengthPredictor, Scheduler
from quire.scheduling import RankedQueue, serve_by_rank


@dataclass
class LtrConfig:
    """When who is overtaken too often goes first. `predictor=` says who ranks."""

    starvation_steps: int = 256
    """Steps that a sequence waits for until it goes before all that have not starved."""
    quantum: int = 32
    """Output tokens for which it then goes first. The paper counts steps; counting tokens, each turn brings
    some, however long it takes to compute again what a preemption took away."""

    def __post_init__(self) -> None:
        for name in ("starvation_steps", "quantum"):
            if getattr(self, name) < 1:
                raise UserError(f"scheduler.{name}={getattr(self, name)}: must be at least 1")


class Ltr(Scheduler):
    """Ordered by the predictor's score, which need not be a length; who starved goes first for a while."""

    Config = LtrConfig
    uses_predictor = True

    def __init__(self, *, config: LtrConfig, predictor: LengthPredictor) -> None:
        self._config = config
        self.predictor: LengthPredictor = predictor
        self._living = RankedQueue()
        """By (not starved, score), those that starved by when they did."""
        self._idle = RankedQueue()
        """By the number of the last step without which it came to wait."""
        self._turns: dict[int, int] = {}
        """Output length at which the turn of one that starved is over."""
        self._scores: dict[int, float] = {}
        self._steps = 0

    def on_arrival(self, seq: SequenceView) -> None:
        self._scores[seq.order] = self.predictor.score(seq)
        self._living.put(seq, (True, self._scores[seq.order]))
        self._idle.put(seq, self._steps)

    def on_finish(self, seq: SequenceView) -> None:
        self._living.discard(seq)
        self._idle.discard(seq)
        self._turns.pop(seq.order, None)
        del self._scores[seq.order]

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        running = tuple(queues.running)
        self._end_turns(running)
        self._begin_turns()
        serve_by_rank(queues, step, self._living.waiting(), rank=self._living.rank)
        self._steps += 1
        for seq in running:
            if seq not in queues.running:
                self._idle.put(seq, self._steps)

    def _begin_turns(self) -> None:
        starved = []
        for seq in self._idle.waiting():
            if self._steps - self._idle.key(seq) < self._config.starvation_steps:
                break
            starved.append(seq)
        for seq in starved:
            self._idle.put(seq, self._steps)
            self._turns[seq.order] = seq.num_output_tokens + self._config.quantum
            self._living.put(seq, (False, self._steps))

    def _end_turns(self, running: tuple[SequenceView, ...]) -> None:
        for seq in running:
            if seq.num_output_tokens >= self._turns.get(seq.order, float("inf")):
                del self._turns[seq.order]
                self._living.put(seq, (True, self._scores[seq.order]))
