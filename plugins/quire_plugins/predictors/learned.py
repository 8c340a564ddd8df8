"""A model of output lengths that is trained on the log of an earlier run (`requests.jsonl`).

Lengths are cut into bins of equally many logged outputs, and a softmax regression gives each bin's
probability from what is known at arrival, as Jin et al. ("S3: Increasing GPU Utilization during Generative
Inference", NeurIPS 2023) and Shahout et al. (TRAIL, ICLR 2025) predict bins. Here the features are those of
the log, prompt length and tenant, not the text. As an output grows, lengths that it has passed drop out and
the others share their probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from omegaconf import MISSING

from quire.errors import UserError
from quire.interfaces import LengthPredictor
from quire_plugins.predictors.length_log import read_lengths

if TYPE_CHECKING:
    from quire.engine.request import Request
    from quire.engine.sequence import SequenceView
    from quire_plugins.predictors.lengths import Lengths


@dataclass
class LearnedConfig:
    """What it learns from, and how finely it tells lengths apart."""

    log: str = MISSING
    """Path of the `requests.jsonl` of an earlier run."""
    bins: int = 20
    """Bins of lengths, fewer where the log has fewer different lengths."""
    rows: int = 20000
    """The last so many completed requests of the log."""

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise UserError(f"predictor.bins={self.bins}: must be at least 2")
        if self.rows < 1:
            raise UserError(f"predictor.rows={self.rows}: must be at least 1")


class Learned(LengthPredictor):
    """Softmax regression over bins of lengths, trained at the start on an earlier run's log."""

    Config = LearnedConfig

    def __init__(self, *, config: LearnedConfig, seed: int) -> None:
        from quire_plugins.predictors.bin_model import BinModel

        del seed
        rows = read_lengths(config.log)[-config.rows :]
        self._model = BinModel.fit(rows, max_bins=config.bins)
        self._probabilities: dict[int, list[float]] = {}

    def on_arrival(self, seq: SequenceView, request: Request) -> None:
        self._probabilities[seq.order] = self._model.probabilities(seq.num_prompt_tokens, seq.tenant)

    def on_finish(self, seq: SequenceView, output_tokens: int | None) -> None:
        del self._probabilities[seq.order]

    def total(self, seq: SequenceView) -> float:
        now, left = seq.num_output_tokens, self._left(seq)
        if not left:
            return self._beyond(seq)
        return sum(mass * (bin_.mean(above=now) or 0.0) for mass, bin_ in left) / sum(
            mass for mass, _ in left
        )

    def quantile(self, seq: SequenceView, q: float) -> float:
        now, left = seq.num_output_tokens, self._left(seq)
        wanted = q * sum(mass for mass, _ in left)
        for mass, bin_ in left:
            if wanted < mass:
                return bin_.quantile(wanted / mass, above=now) or self._beyond(seq)
            wanted -= mass
        return self._beyond(seq)

    def _left(self, seq: SequenceView) -> list[tuple[float, Lengths]]:
        """The bins in which the output may still end, each with how probable it is that it ends there."""
        pairs = zip(self._probabilities[seq.order], self._model.bins, strict=True)
        masses = ((p * bin_.share(above=seq.num_output_tokens), bin_) for p, bin_ in pairs)
        return [(mass, bin_) for mass, bin_ in masses if mass > 0]

    def _beyond(self, seq: SequenceView) -> float:
        """Longer than every logged output: taken to go on for as long again, but no longer than declared."""
        now = seq.num_output_tokens
        return max(now + 1, min(2 * now, seq.max_tokens))
