"""What the operations of a model must do, as tests that a plugin's own tests inherit.

Shapes as in `quire.interfaces.ops`: T tokens, E, I and O dimensions, H heads of D dimensions, X experts, of
which each token has k, P pairs of both.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import product as combinations
from typing import TYPE_CHECKING

from quire.interfaces.ops import Activation, Ops, SortedPairs
from quire.testing import op_formulas
from quire.testing.op_inputs import EPS, OpInputs

if TYPE_CHECKING:
    import torch

_TOLERANCES = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 2e-2}
"""As a share of a number, or of 1 where it is smaller: a few roundings of the type."""


class OpsSuite(ABC):
    """Inherit, and say how to make one:

        class TestMine(OpsSuite):
            def make(self) -> Ops:
                return Mine(config=MineConfig(), device=self.device)

    Every operation is compared with its formula in float64, in every element type that the plugin names, for
    tensors as models have them: many are slices of wider ones, of which only the last dimension is dense.
    """

    device: str = "cpu"
    """Where to run: "cpu" or "cuda"."""
    same_bits: bool = False
    """Set it if a row comes to the same bits alone and in any batch, in products with matrices too."""

    @abstractmethod
    def make(self) -> Ops:
        """Operations for `self.device`."""

    def test_it_names_this_device_and_known_types(self) -> None:
        ops = self.make()
        assert self.device in ops.devices, f"it runs on {sorted(ops.devices)}, not on {self.device}"
        assert ops.dtypes, "it names no element type"
        assert ops.dtypes <= set(_TOLERANCES), f"no model is of a type among {sorted(ops.dtypes)}"

    def test_products(self) -> None:
        for ops, drawn in self._types():
            for outputs, inputs in ((48, 64), (33, 72)):
                weight_OI = drawn.random(outputs, inputs, scale=inputs**-0.5)
                for bias_O in (None, drawn.random(outputs)):
                    multiply = ops.linear(weight_OI.clone(), None if bias_O is None else bias_O.clone())
                    for tokens in (0, 1, 3, 40):
                        x_TI = drawn.random(tokens, inputs + 8)[:, :inputs]
                        expected_TO = op_formulas.product(x_TI, weight_OI, bias_O)
                        what = f"a product of {tokens} x {inputs} and {outputs} x {inputs}"
                        self._check(what, multiply(x_TI), expected_TO, drawn.dtype)

    def test_a_table_of_the_vocabulary_embeds_and_makes_logits_in_float32(self) -> None:
        import torch

        for ops, drawn in self._types():
            table_VE = drawn.random(70, 32, scale=32**-0.5)
            head = ops.head(table_VE.clone())
            ids_T = torch.tensor([69, 0, 64, 64, 31], device=self.device)
            embedded_TE = head.embed(ids_T)
            assert embedded_TE.dtype == drawn.dtype, (
                f"embeddings are {embedded_TE.dtype}, the table is {drawn.dtype}"
            )
            assert embedded_TE.equal(table_VE[ids_T]), "embeddings are not the table's rows"
            for rows in (1, 3):
                hidden_RE = drawn.random(rows, 32)
                logits_RV, expected_RV = head.logits(hidden_RE), op_formulas.product(hidden_RE, table_VE)
                assert logits_RV.dtype == torch.float32, f"logits are {logits_RV.dtype}"
                self._check("logits", logits_RV, expected_RV, drawn.dtype, got_dtype=torch.float32)

    def test_rms_norm(self) -> None:
        for ops, drawn in self._types():
            for tokens, residual, offset in combinations((0, 1, 5), (False, True), (False, True)):
                x_TE, weight_E = drawn.rows(tokens, 96), drawn.random(96)
                residual_TE = drawn.rows(tokens, 96, seed=1) if residual else None
                summed_TE = _sum(x_TE, residual_TE)
                expected_TE = op_formulas.rms_norm(summed_TE, weight_E, eps=EPS, unit_offset=offset)
                got_TE = ops.rms_norm(x_TE, weight_E, eps=EPS, residual_TE=residual_TE, unit_offset=offset)
                what = f"the norm of {tokens} rows, {residual=}, unit_offset={offset},"
                self._check(what, got_TE, expected_TE, drawn.dtype)
                if residual_TE is not None:
                    self._check("the residual", residual_TE, summed_TE, drawn.dtype)

    def test_rms_norm_of_single_heads_and_of_latents(self) -> None:
        """Queries are a slice of what a joint projection made, latents are the beginning of a row."""
        for ops, drawn in self._types():
            for offset in (False, True):
                for x in (drawn.random(3, 6, 16)[:, 1:5], drawn.random(3, 40)[:, :32]):
                    weight = drawn.random(x.shape[-1])
                    expected = op_formulas.rms_norm(x, weight, eps=EPS, unit_offset=offset)
                    got = ops.rms_norm(x, weight, eps=EPS, unit_offset=offset)
                    what = f"the norm of {tuple(x.shape)}, unit_offset={offset},"
                    self._check(what, got, expected, drawn.dtype)

    def test_layer_norm(self) -> None:
        for ops, drawn in self._types():
            for tokens, residual, biased in combinations((0, 1, 5), (False, True), (False, True)):
                x_TE, weight_E = drawn.rows(tokens, 96), drawn.random(96)
                bias_E = drawn.random(96, seed=1) if biased else None
                residual_TE = drawn.rows(tokens, 96, seed=1) if residual else None
                summed_TE = _sum(x_TE, residual_TE)
                expected_TE = op_formulas.layer_norm(summed_TE, weight_E, bias_E, eps=EPS)
                got_TE = ops.layer_norm(x_TE, weight_E, bias_E, eps=EPS, residual_TE=residual_TE)
                what = f"the layer norm of {tokens} rows, {residual=}, {biased=},"
                self._check(what, got_TE, expected_TE, drawn.dtype)
                if residual_TE is not None:
                    self._check("the residual", residual_TE, summed_TE, drawn.dtype)

    def test_rotary(self) -> None:
        """Of all or half of a head's dimensions, in place in the joint tensor. Values, and dimensions that do
        not turn, keep their bits.
        """
        import torch

        positions_T = torch.tensor([49, 0, 7, 7], device=self.device)
        for ops, drawn in self._types():
            for dims, interleaved in combinations((32, 16), (False, True)):
                qkv_TWD, table_PR = drawn.random(4, 8, 32), drawn.angles(50, dims)
                before_TWD = qkv_TWD.clone()
                q_THD, k_TKD, _ = qkv_TWD.split((4, 2, 2), dim=1)
                ops.rotary(q_THD, k_TKD, positions_T, table_PR, interleaved=interleaved)
                expected_TWD = op_formulas.rotated(
                    before_TWD[:, :6], positions_T, table_PR, interleaved=interleaved
                )
                what = f"the rotation of {dims} of 32 dimensions, {interleaved=},"
                self._check(what, qkv_TWD[:, :6], expected_TWD, drawn.dtype)
                assert qkv_TWD[:, 6:].equal(before_TWD[:, 6:]), f"{what} changed values"
                assert qkv_TWD[..., dims:].equal(before_TWD[..., dims:]), f"{what} changed the others"

    def test_rotary_of_the_ends_of_heads_and_rows(self) -> None:
        """What turns of latent attention's queries and rows is the end of each."""
        import torch

        positions_T = torch.tensor([3, 0, 19], device=self.device)
        for ops, drawn in self._types():
            table_PR = drawn.angles(20, 16)
            for interleaved in (False, True):
                q_THD, row_TW = drawn.random(3, 5, 24), drawn.random(3, 40)
                for x_THD, turned_THR in ((q_THD, q_THD[..., 8:]), (row_TW[:, None], row_TW[:, None, 24:])):
                    before_THD, first = x_THD.clone(), x_THD.shape[-1] - 16
                    other_TKR = drawn.random(3, 1, 16)
                    expected_THR = op_formulas.rotated(
                        turned_THR, positions_T, table_PR, interleaved=interleaved
                    )
                    ops.rotary(turned_THR, other_TKR, positions_T, table_PR, interleaved=interleaved)
                    self._check(f"the rotation, {interleaved=},", turned_THR, expected_THR, drawn.dtype)
                    assert x_THD[..., :first].equal(before_THD[..., :first]), "it changed what lies before"

    def test_gates(self) -> None:
        """Gates far from zero too, whose exponentials no 16 bits hold."""
        for ops, drawn in self._types():
            for activation, tokens in combinations(Activation, (0, 1, 3)):
                gate_up_T2I = drawn.random(tokens, 80, scale=3.0)
                gate_up_T2I[1:2] *= 12
                expected_TI = op_formulas.gated(gate_up_T2I, activation)
                got_TI = ops.act_mul(gate_up_T2I, activation)
                self._check(f"{activation.value} of {tokens} rows", got_TI, expected_TI, drawn.dtype)

    def test_grouped_products(self) -> None:
        import torch

        for ops, drawn in self._types():
            weights = [drawn.random(16, 32, scale=32**-0.5, seed=seed) for seed in range(4)]
            multiply = ops.grouped_linear(weight.clone() for weight in weights)
            says = getattr(multiply, "capturable", None)
            assert isinstance(says, bool), "a grouped product must say whether it is capturable"
            for counts in ([2, 0, 3, 1], [0, 0, 0, 5], [1, 0, 0, 0], [40, 1, 0, 23]):
                x_TI = drawn.random(sum(counts), 32)
                ends_G = torch.tensor(counts, device=self.device).cumsum(0).to(torch.int32)
                groups = zip(x_TI.split(counts), weights, strict=True)
                expected_TO = torch.cat([op_formulas.product(x, weight) for x, weight in groups])
                what = f"the product of groups of {counts} rows"
                self._check(what, multiply(x_TI, ends_G), expected_TO, drawn.dtype)

    def test_pairs_are_sorted_by_expert_and_summed_by_token(self) -> None:
        import torch

        generator = torch.Generator().manual_seed(0)
        problems = [
            (6, torch.tensor([[3, 0], [0, 5], [3, 4], [0, 3]])),
            (4, torch.tensor([[2]])),
            (8, torch.rand(700, 8, generator=generator).topk(3).indices),
        ]
        for ops, drawn in self._types():
            for experts, chosen_Tk in problems:
                pairs = ops.sort_pairs(chosen_Tk.to(self.device), experts=experts)
                _check_pairs(pairs, chosen_Tk, experts)
                tokens, k = chosen_Tk.shape
                y_PE = drawn.random(tokens * k, 48, scale=0.5)
                shares_Tk = drawn.random(tokens, k).float().softmax(dim=1)
                by_pair_TkE = op_formulas.wide(y_PE)[pairs.places_Tk.cpu()]
                expected_TE = (by_pair_TkE * op_formulas.wide(shares_Tk)[:, :, None]).sum(dim=1)
                got_TE = ops.sum_pairs(y_PE, pairs.places_Tk, shares_Tk)
                self._check(f"the sum of {k} of {experts} experts", got_TE, expected_TE, drawn.dtype)

    def test_inputs_stay_as_they_are(self) -> None:
        """But for what is changed in place: a residual, and what turns."""
        for ops, drawn in self._types():
            for name, compute in drawn.rowwise(ops):
                x = drawn.random(5, 64)
                before = x.clone()
                compute(x)
                assert x.equal(before), f"{name} changed its input, in {drawn.dtype}"

    def test_a_row_knows_nothing_of_those_beside_it(self) -> None:
        import torch

        for ops, drawn in self._types():
            for name, compute in drawn.rowwise(ops):
                x = drawn.random(9, 64)
                together = compute(x)
                for t in (0, 5, 8):
                    beside = torch.full_like(x, math.nan)
                    beside[t] = x[t]
                    for where, got in (
                        ("alone", compute(x[t : t + 1])[0]),
                        ("beside NaNs", compute(beside)[t]),
                    ):
                        what, expected = f"{name} of a row {where}", op_formulas.wide(together[t])
                        self._check(what, got, expected, drawn.dtype, together.dtype)
                        same = not self.same_bits or got.equal(together[t])
                        assert same, f"{what} is other bits than in a batch, in {drawn.dtype}"

    def _types(self) -> Iterator[tuple[Ops, OpInputs]]:
        """Operations, with inputs of each element type that they name."""
        import torch

        ops = self.make()
        for name in sorted(ops.dtypes):
            yield ops, OpInputs(device=self.device, dtype=getattr(torch, name))

    def _check(
        self,
        what: str,
        got: torch.Tensor,
        expected: torch.Tensor,
        dtype: torch.dtype,
        got_dtype: torch.dtype | None = None,
    ) -> None:
        """`expected` is float64 on the CPU; `dtype` the model's, and that of `got` unless it has another."""
        got_dtype = got_dtype or dtype
        assert got.dtype == got_dtype, f"{what} is {got.dtype}, not {got_dtype}"
        assert got.device.type == self.device, f"{what} is on {got.device}"
        assert got.shape == expected.shape, f"{what} is {tuple(got.shape)}, not {tuple(expected.shape)}"
        error = (op_formulas.wide(got) - expected).abs() / expected.abs().clamp(min=1)
        worst = max(error.nan_to_num(nan=math.inf).flatten().tolist(), default=0.0)
        allowed = _TOLERANCES[str(dtype).removeprefix("torch.")]
        assert worst <= allowed, f"{what} in {dtype} is off by {worst:.3g} (allowed {allowed})"


def _sum(x_TE: torch.Tensor, residual_TE: torch.Tensor | None) -> torch.Tensor:
    x_TE = op_formulas.wide(x_TE)
    return x_TE if residual_TE is None else x_TE + op_formulas.wide(residual_TE)


def _check_pairs(pairs: SortedPairs, chosen_Tk: torch.Tensor, experts: int) -> None:
    """Each pair has a place of its own, among those of its expert, at which its token is named."""
    import torch

    tokens, k = chosen_Tk.shape
    for name, index in (("tokens", pairs.tokens_P), ("places", pairs.places_Tk)):
        assert index.dtype in (torch.int32, torch.int64), f"{name} are {index.dtype}"
    assert pairs.ends_X.dtype == torch.int32, f"ends are {pairs.ends_X.dtype}"
    counts_X = chosen_Tk.flatten().bincount(minlength=experts)
    ends_X, places_Tk = pairs.ends_X.cpu().long(), pairs.places_Tk.cpu().long()
    assert ends_X.equal(counts_X.cumsum(0)), (
        f"groups end at {ends_X.tolist()}, they are of {counts_X.tolist()}"
    )
    assert sorted(places_Tk.flatten().tolist()) == list(range(tokens * k)), "two pairs share a place"
    own_Tk = (places_Tk < ends_X[chosen_Tk]) & (places_Tk >= (ends_X - counts_X)[chosen_Tk])
    assert own_Tk.all(), "a pair has a place among those of another expert"
    named_Tk = pairs.tokens_P.cpu().long()[places_Tk]
    assert named_Tk.equal(torch.arange(tokens)[:, None].expand(tokens, k)), "a place names another token"
