"""The suites of victims, predictors, cost models and quantisation fail for what breaks their contracts."""

from __future__ import annotations

import random
from functools import partial

import pytest
from complaints import complaint
from torch.nn import functional

from quire.errors import UserError
from quire.interfaces import CostModel, LengthPredictor, Quantization, VictimPolicy
from quire.interfaces.ops import ByGroup
from quire.testing import CostModelSuite, PredictorSuite, QuantizationSuite, VictimSuite, make_sequence


class Last(VictimPolicy):
    def choose(self, candidates):
        return candidates[-1]


class Stranger(VictimPolicy):
    def choose(self, candidates):
        return make_sequence((1,), order=99).view


class Fickle(VictimPolicy):
    def __init__(self):
        self.turn = 0

    def choose(self, candidates):
        self.turn += 1
        return candidates[self.turn % len(candidates)]


class Meddler(VictimPolicy):
    def choose(self, candidates):
        candidates[0]._sequence.num_computed = 0
        return candidates[0]


@pytest.mark.parametrize(
    ("kind", "said"),
    [(Last, ""), (Stranger, "is no candidate"), (Fickle, "chose another"), (Meddler, "changed a candidate")],
)
def test_victims(kind, said):
    class Suite(VictimSuite):
        def make(self):
            return kind()

    found = complaint(Suite())
    assert said in found
    assert bool(said) == bool(found)


class Ten(LengthPredictor):
    """Ten tokens, or one more than there are."""

    def __init__(self, seed):
        del seed

    def total(self, seq):
        return max(10, seq.num_output_tokens + 1)

    def quantile(self, seq, q):
        return max(20 * q, seq.num_output_tokens + 1)


class AlwaysTen(Ten):
    def total(self, seq):
        return 10


class Backwards(Ten):
    def quantile(self, seq, q):
        return 100 - q


class Endless(Ten):
    def total(self, seq):
        return float("inf")


class Chance(Ten):
    def total(self, seq):
        return 100 + random.random()


class Learner(Ten):
    """Changes its mind whenever it is asked."""

    def __init__(self, seed):
        self.asked = 0

    def quantile(self, seq, q):
        self.asked += 1
        return 100 + self.asked


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Ten, ""),
        (AlwaysTen, "with 10 tokens there"),
        (Backwards, "test_quantiles_grow"),
        (Endless, "are no lengths"),
        (Chance, "test_asking_changes_nothing"),
        (Learner, "test_asking_changes_nothing"),
    ],
)
def test_predictors(kind, said):
    class Suite(PredictorSuite):
        def make(self, seed):
            return kind(seed)

    found = complaint(Suite())
    assert said in found
    assert bool(said) == bool(found)


class Truth(CostModel):
    """The machine of the suite itself."""

    def __init__(self, known=1.0):
        self.known = known

    @classmethod
    def fit(cls, *, config, shapes, seconds):
        if len(shapes) < 10:
            raise UserError("too few")
        return cls()

    def parameters(self):
        return {"known": self.known}

    def seconds(self, shape):
        return self.known * (
            0.008 + 3e-4 * shape.num_tokens + 2e-4 * shape.samples + 1e-6 * shape.decode_context
        )


class Constant(Truth):
    def seconds(self, shape):
        return 0.05


class Wavering(Truth):
    def seconds(self, shape):
        return super().seconds(shape) - 1e-4 * shape.max_decode_context / 100


class Forgetful(Truth):
    def parameters(self):
        return {"known": 2 * self.known}


class Credulous(Truth):
    @classmethod
    def fit(cls, *, config, shapes, seconds):
        return cls()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Truth, ""),
        (Constant, "off by"),
        (Wavering, "more max_decode_context takes less time"),
        (Forgetful, "test_what_it_learned"),
        (Credulous, "DID NOT RAISE"),
    ],
)
def test_cost_models(kind, said):
    class Suite(CostModelSuite):
        def fit(self, shapes, seconds):
            return kind.fit(config=None, shapes=shapes, seconds=seconds)

        def restore(self, parameters):
            return kind(**parameters)

    found = complaint(Suite())
    assert said in found
    assert bool(said) == bool(found)


class Plain(Quantization):
    def linear(self, weight_OI, bias_O, *, name, ops):
        return lambda x_TI: functional.linear(x_TI, weight_OI, bias_O)


class NoBias(Plain):
    def linear(self, weight_OI, bias_O, *, name, ops):
        return lambda x_TI: functional.linear(x_TI, weight_OI)


class Signs(Plain):
    def linear(self, weight_OI, bias_O, *, name, ops):
        return lambda x_TI: functional.linear(x_TI, weight_OI.sign(), bias_O)


class ByBatch(Plain):
    """Scales by the largest of all rows together."""

    def linear(self, weight_OI, bias_O, *, name, ops):
        def product(x_TI):
            step = x_TI.abs().max() / 127
            return functional.linear((x_TI / step).round() * step, weight_OI, bias_O)

        return product


class InPlace(Plain):
    def linear(self, weight_OI, bias_O, *, name, ops):
        def product(x_TI):
            x_TI += 1e-6
            return functional.linear(x_TI, weight_OI, bias_O)

        return product


class WrongExperts(Plain):
    def grouped_linear(self, weights, *, name, ops):
        *_, last_OI = weights
        return ByGroup([partial(functional.linear, weight=last_OI)] * 3)


class SilentExperts(Plain):
    def grouped_linear(self, weights, *, name, ops):
        right = super().grouped_linear(weights, name=name, ops=ops)
        return lambda x_TI, ends_G: right(x_TI, ends_G)


class WrongStoredExperts(Plain):
    def stored(self, matrix, bias_O, *, name, ops):
        return lambda x_TI: functional.linear(x_TI, matrix.to_float(), bias_O)

    def stored_grouped(self, matrices, *, name, ops):
        *_, last = matrices
        return ByGroup([partial(functional.linear, weight=last.to_float())] * 3)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Plain, ""),
        (NoBias, "test_a_product_is_near"),
        (Signs, "off by"),
        (ByBatch, "test_a_row_depends"),
        (InPlace, "it changed its input"),
        (WrongExperts, "test_experts_are_products"),
        (SilentExperts, "must say whether it is capturable"),
        (WrongStoredExperts, "test_experts_that_a_checkpoint"),
    ],
)
def test_quantization(kind, said):
    class Suite(QuantizationSuite):
        error = 0.05

        def make(self):
            return kind()

    found = complaint(Suite())
    assert said in found
    assert bool(said) == bool(found)
