"""Shortest job first by predicted output length (Qiu et al., "Efficient Interactive LLM Serving with Proxy
Model-based Sequence Length Prediction", 2024, section 3: speculative shortest job first), with ageing."""

from __future__ import annotations

from dataclasses import dataclass

from quire.config.checks import check_not_negative
from quire.engine.queues import QueueView
from quire.engine.sequence import SequenceView
from quire.engine.step import StepBuilder
from quire.interfaces import LengthPredictor, Scheduler
from quire.scheduling import RankedQueue, keep_running


@dataclass
class SjfConfig:
    """How long a long job may be overtaken. `predictor=` says who predicts."""

    aging: float = 0.0
    """Tokens by which an output counts as shorter for each second since the request arrived; 0: none."""

    def __post_init__(self) -> None:
        check_not_negative("scheduler", self, "aging", what="number of tokens a second")


class Sjf(Scheduler):
    """Of those that wait, the one with the shortest predicted output starts first; who runs, runs on.

    The prediction is that of the arrival. With ageing a, nobody who arrives more than L / a seconds after a
    sequence overtakes it, where L is the largest difference of two predictions.
    """

    Config = SjfConfig
    uses_predictor = True

    def __init__(self, *, config: SjfConfig, predictor: LengthPredictor) -> None:
        self._aging = config.aging
        self.predictor: LengthPredictor = predictor
        self._living = RankedQueue()

    def on_arrival(self, seq: SequenceView) -> None:
        self._living.put(seq, self.predictor.total(seq) + self._aging * seq.arrival_time)

    def on_finish(self, seq: SequenceView) -> None:
        self._living.discard(seq)

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        if keep_running(queues, step, rank=self._living.rank):
            for seq in self._living.waiting():
                if not step.add(seq):
                    break
