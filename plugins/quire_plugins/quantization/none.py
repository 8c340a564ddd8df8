"""No quantisation: weights stay as the checkpoint has them, integers included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from quire.errors import MissingCapability
from quire.interfaces.ops import Head, Ops
from quire.interfaces.quantization import IntegerMatrix, Quantization

if TYPE_CHECKING:
    import torch

    from quire.interfaces.ops import GroupedProduct
    from quire.interfaces.quantization import Product


@dataclass
class NoQuantizationConfig:
    """Nothing to choose."""


class NoQuantization(Quantization):
    """As the checkpoint has them: floats as ops multiply them, integers by the kernels for integers."""

    Config = NoQuantizationConfig
    keeps_checkpoint = True

    def __init__(self, *, config: NoQuantizationConfig, device: str) -> None:
        del config
        self._device = device

    def linear(self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None, *, name: str, ops: Ops) -> Product:
        del name
        return ops.linear(weight_OI, bias_O)

    def grouped_linear(self, weights: Iterable[torch.Tensor], *, name: str, ops: Ops) -> GroupedProduct:
        del name
        return ops.grouped_linear(weights)

    def head(self, weight_VE: torch.Tensor, *, ops: Ops) -> Head:
        return ops.head(weight_VE)

    def stored(self, matrix: IntegerMatrix, bias_O: torch.Tensor | None, *, name: str, ops: Ops) -> Product:
        del ops
        from quire_plugins.quantization.products import groupwise_product, int8_product

        if matrix.int8_activations:
            values = (matrix.values_OI.int() - 128).to(dtype=_int8())
            return int8_product(values, matrix.scales_OG[:, 0], bias_O, device=self._device)
        try:
            return groupwise_product(
                matrix.values_OI,
                matrix.scales_OG,
                matrix.zeros_OG,
                bias_O,
                bits=matrix.bits,
                group_size=matrix.group_size,
                device=self._device,
            )
        except ValueError as error:
            raise MissingCapability(f"quantization: {name} has {matrix}: {error}") from None

    def stored_grouped(self, matrices: Iterable[IntegerMatrix], *, name: str, ops: Ops) -> GroupedProduct:
        """On a GPU one launch for all experts, with no question to the device, but for int8 activations."""
        remaining = iter(matrices)
        first = next(remaining)
        matrices = chain([first], remaining)
        if self._device == "cpu" or first.int8_activations:
            return super().stored_grouped(matrices, name=name, ops=ops)
        from quire_kernels.triton import GroupedGroupwiseLinear, pack_groups

        try:
            return GroupedGroupwiseLinear(
                [
                    pack_groups(
                        each.values_OI,
                        each.scales_OG,
                        each.zeros_OG,
                        bits=each.bits,
                        group_size=each.group_size,
                    )
                    for each in matrices
                ]
            )
        except ValueError as error:
            raise MissingCapability(f"quantization: {name} has {first}: {error}") from None


def _int8() -> torch.dtype:
    import torch

    return torch.int8
