"""Who ranks last gives way (under first come, first served, the latest to arrive: Kwon et al.,
PagedAttention, SOSP 2023, section 4.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quire.engine.sequence import SequenceView
from quire.interfaces import VictimPolicy


@dataclass
class LastConfig:
    """It has no options."""


class Last(VictimPolicy):
    """Whom the scheduler would serve last."""

    Config = LastConfig

    def __init__(self, *, config: LastConfig) -> None:
        del config

    def choose(self, candidates: Sequence[SequenceView]) -> SequenceView:
        return candidates[-1]
