"""Whoever holds most memory gives way: one goes where else several would have to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quire.engine.sequence import SequenceView
from quire.interfaces import VictimPolicy


@dataclass
class NewPluginConfig:
    """It has no options."""


class NewPlugin(VictimPolicy):
    """The one with the most computed tokens; of equals the latest to arrive."""

    Config = NewPluginConfig

    def __init__(self, *, config: NewPluginConfig) -> None:
        del config

    def choose(self, candidates: Sequence[SequenceView]) -> SequenceView:
        return max(candidates, key=lambda seq: (seq.num_computed, seq.order))
