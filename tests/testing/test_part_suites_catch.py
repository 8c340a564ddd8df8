"""The suites of operations and executors fail for what breaks their contracts."""

from __future__ import annotations

import dataclasses
from collections import deque

import pytest
import torch
from complaints import complaint
from torch.nn import functional

from quire.engine.plan import RowResult
from quire.interfaces import Head, OutOfDeviceMemory
from quire.interfaces.ops import Activation, ByGroup
from quire.testing import ExecutorSuite, OpsSuite, PlainOps
from quire_plugins.executors.local import LocalConfig, LocalExecutor
from quire_plugins.executors.simulated import SimulatedConfig, SimulatedExecutor


class Plain(PlainOps):
    dtypes = frozenset({"float32"})


class NoBias(Plain):
    def linear(self, weight_OI, bias_O):
        return super().linear(weight_OI, None)


class Impolite(Plain):
    def linear(self, weight_OI, bias_O):
        return lambda x_TI: functional.linear(x_TI.mul_(1 + 1e-6), weight_OI, bias_O)


class ByBatch(Plain):
    """Scales by the largest of all rows together."""

    def linear(self, weight_OI, bias_O):
        def product(x_TI):
            scale = x_TI.abs().amax() if len(x_TI) else 1.0
            return functional.linear(x_TI / scale, weight_OI) * scale + (0 if bias_O is None else bias_O)

        return product


class AlmostAlone(Plain):
    """By the last bit."""

    def linear(self, weight_OI, bias_O):
        right = super().linear(weight_OI, bias_O)
        return lambda x_TI: right(x_TI) * (1 + 2e-7 * (len(x_TI) > 1))


class NarrowLogits(PlainOps):
    dtypes = frozenset({"bfloat16"})

    def head(self, weight_VE):
        class Narrow(Head):
            def embed(self, ids_T):
                return weight_VE[ids_T]

            def logits(self, hidden_RE):
                return hidden_RE @ weight_VE.T

        return Narrow()


class EpsOutside(Plain):
    def rms_norm(self, x_TE, weight_E, *, eps, residual_TE=None, unit_offset=False):
        right = super().rms_norm(x_TE, weight_E, eps=0.0, residual_TE=residual_TE, unit_offset=unit_offset)
        x_TE = x_TE if residual_TE is None else residual_TE
        rms_T1 = x_TE.square().mean(-1, keepdim=True).sqrt()
        return right * rms_T1 / (rms_T1 + eps)


class NarrowSquares(PlainOps):
    dtypes = frozenset({"float16"})

    def rms_norm(self, x_TE, weight_E, *, eps, residual_TE=None, unit_offset=False):
        x_TE = x_TE if residual_TE is None else residual_TE.add_(x_TE)
        return x_TE * (x_TE.square().mean(-1, keepdim=True) + eps).rsqrt() * (weight_E + unit_offset)


class ForgetsResidual(Plain):
    def rms_norm(self, x_TE, weight_E, *, eps, residual_TE=None, unit_offset=False):
        x_TE = x_TE if residual_TE is None else x_TE + residual_TE
        return super().rms_norm(x_TE, weight_E, eps=eps, unit_offset=unit_offset)


class OneKindOfPairs(Plain):
    def rotary(self, q_THD, k_TKD, positions_T, cos_sin_PR, *, interleaved=False):
        super().rotary(q_THD, k_TKD, positions_T, cos_sin_PR)


class TurnsRowNumbers(Plain):
    def rotary(self, q_THD, k_TKD, positions_T, cos_sin_PR, *, interleaved=False):
        rows_T = torch.arange(len(positions_T)) % len(cos_sin_PR)
        super().rotary(q_THD, k_TKD, rows_T, cos_sin_PR, interleaved=interleaved)


class OtherGelu(Plain):
    def act_mul(self, gate_up_T2I, activation):
        if activation is Activation.SILU:
            return super().act_mul(gate_up_T2I, activation)
        gate_TI, up_TI = gate_up_T2I.chunk(2, dim=-1)
        return functional.gelu(gate_TI) * up_TI


class NextGroup(Plain):
    def grouped_linear(self, weights):
        first, *others = weights
        return ByGroup([self.linear(weight, None) for weight in (*others, first)])


class SilentGroups(Plain):
    def grouped_linear(self, weights):
        right = super().grouped_linear(weights)
        return lambda x_TI, ends_G: right(x_TI, ends_G)


class PlacesAsTheyCome(Plain):
    def sort_pairs(self, chosen_Tk, *, experts):
        pairs = super().sort_pairs(chosen_Tk, experts=experts)
        return pairs._replace(places_Tk=torch.arange(chosen_Tk.numel()).view_as(chosen_Tk))


class NoShares(Plain):
    def sum_pairs(self, y_PE, places_Tk, shares_Tk):
        return y_PE[places_Tk].mean(dim=1)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Plain, ""),
        (NoBias, "test_products"),
        (Impolite, "linear changed its input"),
        (ByBatch, "linear of a row beside NaNs"),
        (AlmostAlone, "is other bits than in a batch"),
        (NarrowLogits, "logits are torch.bfloat16"),
        (EpsOutside, "the norm of 5 rows"),
        (NarrowSquares, "the norm of 5 rows"),
        (ForgetsResidual, "the residual"),
        (OneKindOfPairs, "interleaved=True"),
        (TurnsRowNumbers, "test_a_row_knows"),
        (OtherGelu, "gelu_tanh of"),
        (NextGroup, "the product of groups"),
        (SilentGroups, "must say whether it is capturable"),
        (PlacesAsTheyCome, "has a place among those of another expert"),
        (NoShares, "the sum of"),
    ],
)
def test_ops(kind, said):
    class Suite(OpsSuite):
        same_bits = kind is AlmostAlone

        def make(self):
            return kind()

    found = complaint(Suite())
    assert said in found
    assert bool(said) == bool(found)


class NewestFirst(LocalExecutor):
    def collect(self):
        self._steps = deque(reversed(self._steps))
        result = super().collect()
        self._steps = deque(reversed(self._steps))
        return result


class NextToken(LocalExecutor):
    def collect(self):
        result = super().collect()
        rows = [RowResult(token_id=row.token_id and (row.token_id + 1) % 96) for row in result.rows]
        return dataclasses.replace(result, rows=tuple(rows))


class AlwaysSamples(LocalExecutor):
    def collect(self):
        result = super().collect()
        return dataclasses.replace(result, rows=tuple(RowResult(token_id=1) for _ in result.rows))


class CopiesNothing(LocalExecutor):
    def submit(self, plan):
        super().submit(dataclasses.replace(plan, copies=()))


class RaisesAtOnce(LocalExecutor):
    def submit(self, plan):
        super().submit(plan)
        self._steps[-1].result()


class HidesWhatWasShort(LocalExecutor):
    def collect(self):
        try:
            return super().collect()
        except OutOfDeviceMemory as error:
            raise RuntimeError(str(error)) from None


class StartsOnce(LocalExecutor):
    def start(self, layout, *, max_sequences):
        assert self._runner is None, "it runs already"
        super().start(layout, max_sequences=max_sequences)


class ClosesOnce(LocalExecutor):
    closed = False

    def close(self):
        assert not self.closed, "it is closed already"
        super().close()
        self.closed = True


@pytest.mark.parametrize(
    ("kind", "only", "said"),
    [
        (NewestFirst, "test_results", "the result of step 1 instead of 0"),
        (NextToken, "test_an_engine", "go on with"),
        (AlwaysSamples, "test_a_chunk", "the prompt goes on, and a token was sampled"),
        (CopiesNothing, "test_copied", "test_copied"),
        (RaisesAtOnce, "test_what_breaks", "ValueError: broken"),
        (HidesWhatWasShort, "test_what_breaks", "out of memory"),
        (StartsOnce, "test_started_again", "it runs already"),
        (ClosesOnce, "test_closing", "it is closed already"),
    ],
)
def test_executors(kind, only, said):
    class Suite(ExecutorSuite):
        def make(self, context):
            return kind(config=LocalConfig(), context=context)

    assert said in complaint(Suite(), only)


class StandsStill(SimulatedExecutor):
    def collect(self):
        return self._results.popleft()[1]


class TwiceAsLong(SimulatedExecutor):
    def collect(self):
        result = super().collect()
        return dataclasses.replace(result, seconds=2 * result.seconds)


@pytest.mark.parametrize(
    ("kind", "said"), [(StandsStill, "it is 0.0, the step ends at"), (TwiceAsLong, "s instead of")]
)
def test_executors_of_virtual_time(kind, said):
    class Suite(ExecutorSuite):
        virtual = True

        def make(self, context):
            return kind(config=SimulatedConfig(), context=context)

    assert said in complaint(Suite(), "test_steps_take")
