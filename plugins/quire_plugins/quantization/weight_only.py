"""What quantisations of weights alone, by groups, have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces.ops import Ops
from quire.interfaces.quantization import Quantization

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from quire.interfaces.ops import GroupedProduct
    from quire.interfaces.quantization import Product

_GROUPS = (32, 64, 128)


def check_group_size(group_size: int) -> None:
    """Raise UserError for an option that no kernel has."""
    if group_size not in _GROUPS:
        raise UserError(
            f"quantization.group_size={group_size}: must be one of {', '.join(map(str, _GROUPS))}"
        )


class WeightOnly(Quantization):
    """Weights rounded to the nearest integers, by groups; activations in the model's type."""

    def __init__(
        self, *, bits: int, group_size: int, symmetric: bool, skip: Sequence[str], device: str
    ) -> None:
        self.skip = skip
        self._bits = bits
        self._group_size = group_size
        self._symmetric = symmetric
        self._device = device

    def linear(self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None, *, name: str, ops: Ops) -> Product:
        del name, ops
        from quire_plugins.quantization.products import groupwise_product

        return groupwise_product(
            *self._round(weight_OI),
            bias_O,
            bits=self._bits,
            group_size=self._group_size,
            device=self._device,
        )

    def grouped_linear(self, weights: Iterable[torch.Tensor], *, name: str, ops: Ops) -> GroupedProduct:
        """On a GPU one launch for all experts, with no question to the device."""
        if self._device == "cpu":
            return super().grouped_linear(weights, name=name, ops=ops)
        from quire_kernels.triton import GroupedGroupwiseLinear, pack_groups

        return GroupedGroupwiseLinear(
            [
                pack_groups(*self._round(weight_OI), bits=self._bits, group_size=self._group_size)
                for weight_OI in weights
            ]
        )

    def _round(self, weight_OI: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        from quire_plugins.quantization.rounding import round_groups

        return round_groups(
            weight_OI, bits=self._bits, group_size=self._group_size, symmetric=self._symmetric
        )
