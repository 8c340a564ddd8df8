"""The latest to arrive gives way, whatever the scheduler's order: it has waited for the shortest time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from quire.engine.sequence import SequenceView
from quire.interfaces import VictimPolicy


@dataclass
class LatestConfig:
    """It has no options."""


class Latest(VictimPolicy):
    """The latest to arrive."""

    Config = LatestConfig

    def __init__(self, *, config: LatestConfig) -> None:
        del config

    def choose(self, candidates: Sequence[SequenceView]) -> SequenceView:
        return max(candidates, key=attrgetter("order"))
