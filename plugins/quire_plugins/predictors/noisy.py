"""A predictor as good as one chooses: true lengths, disturbed to a given rank correlation.

The noise is a Gaussian copula. A true length L of distribution F becomes the normal score z = Phi^-1(F(L)),
a normal draw e makes it r z + sqrt(1 - r^2) e, and the prediction is what F has there. So predictions are
distributed as lengths are, whatever F is, and for normal scores of correlation r Spearman's rho is (6 / pi)
asin(r / 2) (Kruskal, "Ordinal measures of association", JASA 1958), which gives r. F is that of
the lengths that have arrived, so the first few predictions are poor whatever the correlation, and many
equal lengths lower it a little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces import LengthPredictor
from quire.rng import derive_seed, uniform
from quire_plugins.predictors.lengths import Lengths
from quire_plugins.predictors.oracle import true_length

if TYPE_CHECKING:
    from quire.engine.request import Request
    from quire.engine.sequence import SequenceView

_NORMAL = NormalDist()
_EDGE = 2.0**-53


@dataclass
class NoisyConfig:
    """How good it is."""

    correlation: float = 0.8
    """Spearman's rank correlation between predicted and true lengths, in [0, 1]; 1 is the oracle."""

    def __post_init__(self) -> None:
        if not 0 <= self.correlation <= 1:
            raise UserError(f"predictor.correlation={self.correlation}: must be in [0, 1]")


class Noisy(LengthPredictor):
    """The true length, disturbed to a chosen rank correlation."""

    Config = NoisyConfig

    def __init__(self, *, config: NoisyConfig, seed: int) -> None:
        self._r = 2 * math.sin(math.pi * config.correlation / 6)
        self._seed = seed
        self._arrived = Lengths()
        self._scores: dict[int, float] = {}
        """The disturbed normal score of each living sequence."""
        self._predicted: dict[int, float] = {}

    def on_arrival(self, seq: SequenceView, request: Request) -> None:
        length = true_length(request)
        seed = derive_seed(self._seed, "noisy predictor", seq.id)
        self._arrived.add(length)
        place = self._arrived.place(length, uniform(seed, 0))
        score = self._r * _score(place) + math.sqrt(max(0.0, 1 - self._r**2)) * _score(uniform(seed, 1))
        self._scores[seq.order] = score
        self._predicted[seq.order] = length if self._r >= 1 else self._length_at(score)

    def on_finish(self, seq: SequenceView, output_tokens: int | None) -> None:
        del self._scores[seq.order], self._predicted[seq.order]

    def total(self, seq: SequenceView) -> float:
        return max(self._predicted[seq.order], seq.num_output_tokens + 1)

    def quantile(self, seq: SequenceView, q: float) -> float:
        """Of the true length given the disturbed score s, which is normal about r s with variance 1 - r^2."""
        if self._r >= 1:
            return self.total(seq)
        spread = math.sqrt(1 - self._r**2)
        score = self._r * self._scores[seq.order] + spread * _score(q)
        return max(self._length_at(score), seq.num_output_tokens + 1)

    def _length_at(self, score: float) -> int:
        length = self._arrived.quantile(min(_NORMAL.cdf(score), 1 - _EDGE))
        assert length is not None, "the sequence itself has arrived"
        return length


def _score(place: float) -> float:
    """The normal score of a place in [0, 1)."""
    return _NORMAL.inv_cdf(min(max(place, _EDGE), 1 - _EDGE))
