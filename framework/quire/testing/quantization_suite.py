"""What every way to hold weights must do, as tests that a plugin's own tests inherit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces.quantization import IntegerMatrix, Product, Quantization
from quire.testing.plain_ops import PlainOps

if TYPE_CHECKING:
    import torch

    from quire.interfaces.ops import Ops

_INPUTS, _OUTPUTS, _VOCAB = 256, 96, 64


class QuantizationSuite(ABC):
    """Inherit, and say how to make one:

    class TestMine(QuantizationSuite):
        def make(self) -> Quantization:
            return Mine(config=MineConfig(), device="cpu")
    """

    device: str = "cpu"
    error: float = 0.2
    """By how much products of random weights may differ from those of the weights as they were: the
    root of the mean square, as a share of the product's own."""

    @abstractmethod
    def make(self) -> Quantization:
        """A new plugin that holds nothing."""

    def make_ops(self) -> Ops:
        """The operations beneath."""
        return PlainOps()

    def test_a_product_is_near_that_of_the_weight(self) -> None:
        weight_OI, bias_O = self._random(_OUTPUTS, _INPUTS), self._random(_OUTPUTS)
        for bias in (None, bias_O):
            expected_TO = self._inputs(33) @ weight_OI.T + (0 if bias is None else bias)
            self._check(self._linear(weight_OI, bias)(self._inputs(33)), expected_TO)

    def test_a_row_depends_on_nothing_beside_it(self) -> None:
        import torch

        product, x_TI = self._linear(self._random(_OUTPUTS, _INPUTS), None), self._inputs(9)
        before, together_TO = x_TI.clone(), product(x_TI)
        assert x_TI.equal(before), "it changed its input"
        for t in range(9):
            torch.testing.assert_close(product(x_TI[t : t + 1])[0], together_TO[t], rtol=1e-3, atol=1e-3)

    def test_experts_are_products_by_themselves(self) -> None:
        import torch

        weights = [self._random(_OUTPUTS, _INPUTS, seed=g) for g in range(3)]
        ends, x_TI = [2, 2, 7], self._inputs(7)
        grouped = self.make().grouped_linear(
            (weight.clone() for weight in weights), name="layers.0.mlp.experts.gate_up", ops=self.make_ops()
        )
        says = getattr(grouped, "capturable", None)
        assert isinstance(says, bool), "a grouped product must say whether it is capturable"
        got_TO = grouped(x_TI, torch.tensor(ends, dtype=torch.int32, device=self.device))
        self._check(got_TO, torch.cat([x_TI[:2] @ weights[0].T, x_TI[2:] @ weights[2].T]))

    def test_the_head_embeds_and_makes_logits_in_float32(self) -> None:
        import torch

        table_VE = self._random(_VOCAB, _INPUTS)
        head = self.make().head(table_VE.clone(), ops=self.make_ops())
        logits_RV = head.logits(self._inputs(5))
        assert logits_RV.dtype == torch.float32
        self._check(logits_RV, self._inputs(5) @ table_VE.T)
        ids_T = torch.tensor([3, 0, _VOCAB - 1], device=self.device)
        torch.testing.assert_close(head.embed(ids_T).float(), table_VE[ids_T], rtol=0.1, atol=0.3)

    def test_integers_of_a_checkpoint_are_multiplied_or_refused(self) -> None:
        matrix = self._integers()
        expected_TO = self._inputs(6) @ matrix.to_float().T
        try:
            product = self.make().stored(matrix, None, name="layers.0.mlp.down", ops=self.make_ops())
        except UserError:
            return
        self._check(product(self._inputs(6)), expected_TO)

    def test_experts_that_a_checkpoint_holds_as_integers_are_multiplied_or_refused(self) -> None:
        import torch

        matrices = [self._integers(seed=g) for g in range(3)]
        ends, x_TI = [2, 2, 7], self._inputs(7)
        try:
            grouped = self.make().stored_grouped(
                iter(matrices), name="layers.0.mlp.experts.down", ops=self.make_ops()
            )
        except UserError:
            return
        got_TO = grouped(x_TI, torch.tensor(ends, dtype=torch.int32, device=self.device))
        parts = (x_TI[:2] @ matrices[0].to_float().T, x_TI[2:] @ matrices[2].to_float().T)
        self._check(got_TO, torch.cat(parts))

    def _integers(self, seed: int = 0) -> IntegerMatrix:
        """A weight of 4 bits, in groups of 32 with a zero each."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        shape = (_OUTPUTS, _INPUTS // 32)
        return IntegerMatrix(
            values_OI=torch.randint(0, 16, (_OUTPUTS, _INPUTS), generator=generator).byte().to(self.device),
            scales_OG=(torch.rand(shape, generator=generator) * 0.1 + 0.01).to(self.device),
            zeros_OG=torch.randint(0, 16, shape, generator=generator).byte().to(self.device),
            bits=4,
            group_size=32,
        )

    def _linear(self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None) -> Product:
        return self.make().linear(weight_OI.clone(), bias_O, name="layers.0.attention.o", ops=self.make_ops())

    def _check(self, got_TO: torch.Tensor, expected_TO: torch.Tensor) -> None:
        assert got_TO.shape == expected_TO.shape
        error = ((got_TO.float() - expected_TO).square().mean() / expected_TO.square().mean()).sqrt().item()
        assert error <= self.error, f"a product is off by {error:.1%} of its own size"

    def _inputs(self, tokens: int) -> torch.Tensor:
        return self._random(tokens, _INPUTS, seed=tokens)

    def _random(self, *shape: int, seed: int = 0) -> torch.Tensor:
        import torch

        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(self.device)
