"""Shortest predicted remaining time first, preemptive: TRAIL (Shahout et al., "Don't Stop Me Now: Embedding
Based Scheduling for LLMs", ICLR 2025, section 3), predicted anew with each token, preemption limited to the
young.

Time is counted in decode steps: one for each token of the output that is still to come, and as many as it
takes as long as to compute what is not in memory. What is in memory counts in a sequence's favour likewise,
since a preemption would have to compute it again; without that, long prompts with short outputs are
interrupted for less than the interruption costs.
"""

from __future__ import annotations

from dataclasses import dataclass

from quire.config.checks import check_not_negative
from quire.engine.queues import QueueView
from quire.engine.records import StepRecord
from quire.engine.sequence import SequenceView, Status
from quire.engine.step import StepBuilder
from quire.errors import UserError
from quire.interfaces import LengthPredictor, Scheduler
from quire.scheduling import RankedQueue, serve_by_rank
from quire_plugins.schedulers.step_time import StepTime


@dataclass
class SrptConfig:
    """When a long job gives way, and for how long. `predictor=` says who predicts."""

    aging: float = 0.0
    """Tokens by which an output counts as shorter for each second since the request arrived; 0: none."""
    preempt_until: float = 0.8
    """TRAIL's C, in [0, 1]: who has generated more than this share of its first prediction gives way to
    nobody that waits; 0 never preempts for one that waits, 1 does up to the end. Memory holds tokens that
    would have to be computed again, the more the later."""

    def __post_init__(self) -> None:
        check_not_negative("scheduler", self, "aging", what="number of tokens a second")
        if not 0 <= self.preempt_until <= 1:
            raise UserError(f"scheduler.preempt_until={self.preempt_until}: must be in [0, 1]")


class Srpt(Scheduler):
    """Whose output is predicted to end soonest goes first, those that run and those that wait alike."""

    Config = SrptConfig
    uses_predictor = True

    def __init__(self, *, config: SrptConfig, predictor: LengthPredictor) -> None:
        self._config = config
        self.predictor: LengthPredictor = predictor
        self._step_time = StepTime()
        self._living = RankedQueue()
        self._fixed: dict[int, float] = {}
        """Output tokens from which on a sequence is not preempted for another."""

    def on_arrival(self, seq: SequenceView) -> None:
        self._fixed[seq.order] = self._config.preempt_until * self.predictor.total(seq)
        self._living.put(seq, self._left(seq) + self._steps(seq.remaining))

    def on_finish(self, seq: SequenceView) -> None:
        self._living.discard(seq)
        del self._fixed[seq.order]

    def on_step(self, record: StepRecord) -> None:
        self._step_time.observe(record)

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        running = tuple(queues.running)
        serve_by_rank(queues, step, self._living.waiting(), rank=self._rank)
        for seq in running:
            if seq not in queues.running:  # it waits from now on, for what it has left
                self._living.put(seq, self._left(seq) + self._steps(seq.num_tokens))

    def _rank(self, seq: SequenceView) -> tuple[bool, float, int]:
        if seq.status is Status.WAITING:  # as it was when it came to wait
            return True, self._living.key(seq), seq.order
        left = self._left(seq) - self._steps(seq.num_computed)
        return seq.num_output_tokens < self._fixed[seq.order], left, seq.order

    def _left(self, seq: SequenceView) -> float:
        return self.predictor.remaining(seq) + self._config.aging * seq.arrival_time

    def _steps(self, tokens: int) -> float:
        """Decode steps that last as long as computing so many tokens of a prompt."""
        one = self._step_time.seconds(1)
        return self._step_time.seconds(tokens) / one if one > 0 else 0.0
