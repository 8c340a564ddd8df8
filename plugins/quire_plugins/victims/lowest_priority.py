"""The least urgent by the caller's own priority gives way, under any scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quire.engine.sequence import SequenceView
from quire.interfaces import VictimPolicy


@dataclass
class LowestPriorityConfig:
    """It has no options."""


class LowestPriority(VictimPolicy):
    """The one of the lowest priority; of equals the latest to arrive."""

    Config = LowestPriorityConfig

    def __init__(self, *, config: LowestPriorityConfig) -> None:
        del config

    def choose(self, candidates: Sequence[SequenceView]) -> SequenceView:
        return max(candidates, key=lambda seq: (seq.priority, seq.order))  # the smaller the more urgent
