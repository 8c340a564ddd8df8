"""Weights in 4 bits by groups, activations as they are (Frantar et al., GPTQ, 2022, section 4, rounded to
nearest).

A quarter of bfloat16's memory, and where few rows meet a weight, about that of its time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces.ops import Ops
from quire.interfaces.quantization import Quantization

if TYPE_CHECKING:
    import torch

    from quire.interfaces.quantization import Product

_GROUPS = (32, 64, 128)
_BITS = 4


@dataclass
class W4A16Config:
    """Options of `quantization=w4a16`."""

    group_size: int = 64
    """Neighbours of a row that share a scale: 32, 64 or 128."""
    symmetric: bool = False
    """No zero of its own for each group: less to hold, and less accurate."""
    skip: list[str] = field(default_factory=lambda: ["head"])
    """Names of products to leave in the model's type, such as head or layers.0.*; `*` stands for anything."""

    def __post_init__(self) -> None:
        if self.group_size not in _GROUPS:
            raise UserError(
                f"quantization.group_size={self.group_size}: must be one of {', '.join(map(str, _GROUPS))}"
            )


class W4A16(Quantization):
    """4-bit weights by group, activations in the model's type; own kernels on a CPU, torch's on a GPU."""

    Config = W4A16Config

    def __init__(self, *, config: W4A16Config, device: str) -> None:
        self.skip = config.skip
        self._config = config
        self._device = device

    def linear(self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None, *, name: str, ops: Ops) -> Product:
        del name, ops
        from quire_plugins.quantization.products import groupwise_product
        from quire_plugins.quantization.rounding import round_groups

        group_size = self._config.group_size
        values_OI, scales_OG, zeros_OG = round_groups(
            weight_OI, bits=_BITS, group_size=group_size, symmetric=self._config.symmetric
        )
        return groupwise_product(
            values_OI, scales_OG, zeros_OG, bias_O, bits=_BITS, group_size=group_size, device=self._device
        )
