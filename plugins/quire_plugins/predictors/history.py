"""Lengths to come are like those of late: the distribution of finished outputs, given what is generated so
far.

Gong et al., "Past-Future Scheduler for LLM Serving under SLA Guarantees", ASPLOS 2025, section 3, take the
output lengths of a window of finished requests, and of those the ones that are longer than the output is now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces import LengthPredictor
from quire_plugins.predictors.lengths import Lengths

if TYPE_CHECKING:
    from quire.engine.sequence import SequenceView


@dataclass
class HistoryConfig:
    """Which finished outputs count."""

    window: int = 1000
    """The last so many finished outputs."""
    per_tenant: bool = False
    """Look at outputs of the same tenant only."""

    def __post_init__(self) -> None:
        if self.window < 1:
            raise UserError(f"predictor.window={self.window}: must be at least 1")


class History(LengthPredictor):
    """The distribution of finished outputs, longer ones only as an output grows.

    While none of them is longer, nothing is known but what the caller declared: `max_tokens`.
    """

    Config = HistoryConfig

    def __init__(self, *, config: HistoryConfig, seed: int) -> None:
        del seed
        self._config = config
        self._lengths: dict[str, Lengths] = {}

    def on_finish(self, seq: SequenceView, output_tokens: int | None) -> None:
        if output_tokens is not None:
            self._of(seq).add(output_tokens)

    def total(self, seq: SequenceView) -> float:
        mean = self._of(seq).mean(above=seq.num_output_tokens)
        return self._declared(seq) if mean is None else mean

    def quantile(self, seq: SequenceView, q: float) -> float:
        length = self._of(seq).quantile(q, above=seq.num_output_tokens)
        return self._declared(seq) if length is None else length

    def _of(self, seq: SequenceView) -> Lengths:
        tenant = seq.tenant if self._config.per_tenant else ""
        lengths = self._lengths.get(tenant)
        if lengths is None:
            lengths = self._lengths[tenant] = Lengths(window=self._config.window)
        return lengths

    def _declared(self, seq: SequenceView) -> float:
        return max(seq.max_tokens, seq.num_output_tokens + 1)
