"""Who is predicted to run longest gives way: the others end, and free memory, before it would (shortest
remaining first, turned round; the order of Shahout et al., "Don't Stop Me Now: Embedding Based Scheduling for
LLMs", ICLR 2025, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quire.engine.sequence import SequenceView
from quire.interfaces import LengthPredictor, VictimPolicy


@dataclass
class LongestRemainingConfig:
    """It has no options; `predictor=` says who predicts."""


class LongestRemaining(VictimPolicy):
    """The one with the longest predicted rest of its output; of equals the latest to arrive."""

    Config = LongestRemainingConfig
    uses_predictor = True

    def __init__(self, *, config: LongestRemainingConfig, predictor: LengthPredictor) -> None:
        del config
        self.predictor: LengthPredictor = predictor

    def choose(self, candidates: Sequence[SequenceView]) -> SequenceView:
        return max(candidates, key=lambda seq: (self.predictor.remaining(seq), seq.order))
