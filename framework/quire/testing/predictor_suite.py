"""What every length predictor must do, as tests that a predictor's own tests inherit."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from dataclasses import replace

from quire.engine.sequence import Sequence
from quire.interfaces.predictor import LengthPredictor
from quire.testing.sequences import make_sequence

_LONGEST = 40
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class PredictorSuite(ABC):
    """Inherit, and say how to make one:

    class TestMine(PredictorSuite):
        def make(self, seed: int) -> LengthPredictor:
            return Mine(config=MineConfig(), seed=seed)
    """

    @abstractmethod
    def make(self, seed: int) -> LengthPredictor:
        """A new predictor that has seen nothing."""

    def test_a_prediction_is_more_than_there_is(self) -> None:
        predictor = self._experienced(seed=1)
        sequence = _arrive(predictor, order=1000, length=_LONGEST)
        for output in range(_LONGEST):
            said = [predictor.total(sequence.view), *_quantiles(predictor, sequence)]
            assert all(map(math.isfinite, said)), f"{said} are no lengths"
            assert min(said) >= output + 1, f"with {output} tokens there it says {said}"
            assert predictor.remaining(sequence.view) >= 1
            assert math.isfinite(predictor.score(sequence.view))
            sequence.tokens.append(2)

    def test_quantiles_grow(self) -> None:
        predictor = self._experienced(seed=2)
        sequence = _arrive(predictor, order=1000, length=_LONGEST)
        for _ in range(_LONGEST):
            said = _quantiles(predictor, sequence)
            assert said == sorted(said), f"quantiles {_QUANTILES} are {said}"
            sequence.tokens.append(2)

    def test_asking_changes_nothing(self) -> None:
        asked, unasked = self._experienced(seed=3, ask=True), self._experienced(seed=3)
        assert _opinion(asked) == _opinion(unasked)

    def test_the_same_seed_says_the_same(self) -> None:
        assert _opinion(self._experienced(seed=4)) == _opinion(self._experienced(seed=4))

    def test_it_knows_something_before_anything_has_ended(self) -> None:
        predictor = self.make(0)
        sequence = _arrive(predictor, order=0, length=7)
        assert predictor.total(sequence.view) >= 1
        predictor.on_finish(sequence.view, None)  # called off before its first token

    def _experienced(self, seed: int, *, ask: bool = False) -> LengthPredictor:
        """One that has seen requests come and go, several at a time, some of them called off."""
        predictor, draw = self.make(seed), random.Random(seed)
        living: list[Sequence] = []
        for order in range(200):
            living.append(_arrive(predictor, order=order, length=1 + draw.randrange(_LONGEST)))
            if len(living) > 8:
                sequence = living.pop(draw.randrange(8))
                length = sequence.request.forced_output_tokens or 1
                if ask:
                    _quantiles(predictor, sequence)
                    predictor.score(sequence.view)
                sequence.tokens += [2] * length
                predictor.on_finish(sequence.view, None if draw.random() < 0.1 else length)
        return predictor


def _arrive(predictor: LengthPredictor, *, order: int, length: int) -> Sequence:
    """A sequence whose output will have that length, which predictors may look up if they say so."""
    sequence = make_sequence((1,) * (1 + order % 50), order=order, max_tokens=2 * _LONGEST)
    sequence.request = replace(sequence.request, tenant=f"t{order % 2}", forced_output_tokens=length)
    predictor.on_arrival(sequence.view, sequence.request)
    return sequence


def _quantiles(predictor: LengthPredictor, sequence: Sequence) -> list[float]:
    return [predictor.quantile(sequence.view, q) for q in _QUANTILES]


def _opinion(predictor: LengthPredictor) -> list[float]:
    """What it says of ten more requests."""
    said: list[float] = []
    for order in range(1000, 1010):
        sequence = _arrive(predictor, order=order, length=1 + order % _LONGEST)
        said += [predictor.total(sequence.view), *_quantiles(predictor, sequence)]
    return said
