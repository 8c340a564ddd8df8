"""Who has computed least gives way: what is preempted is computed again, and this loses the fewest tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quire.engine.sequence import SequenceView
from quire.interfaces import VictimPolicy


@dataclass
class LeastProgressConfig:
    """It has no options."""


class LeastProgress(VictimPolicy):
    """The one with the fewest computed tokens; of equals the latest to arrive."""

    Config = LeastProgressConfig

    def __init__(self, *, config: LeastProgressConfig) -> None:
        del config

    def choose(self, candidates: Sequence[SequenceView]) -> SequenceView:
        return min(candidates, key=lambda seq: (seq.num_computed, -seq.order))
