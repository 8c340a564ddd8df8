"""The earliest to arrive gives way: most of it is computed, so this is the dearest choice, to compare
with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from quire.engine.sequence import SequenceView
from quire.interfaces import VictimPolicy


@dataclass
class EarliestConfig:
    """It has no options."""


class Earliest(VictimPolicy):
    """The earliest to arrive of those that may be chosen."""

    Config = EarliestConfig

    def __init__(self, *, config: EarliestConfig) -> None:
        del config

    def choose(self, candidates: Sequence[SequenceView]) -> SequenceView:
        return min(candidates, key=attrgetter("order"))
