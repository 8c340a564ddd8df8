"""Weights and activations in int8 (Dettmers et al., LLM.int8(), 2022, section 2.1, without its outliers).

Every row of a weight has a scale, fixed at loading; every token's activations have one, found as they come
(Yao et al., ZeroQuant, 2022, section 3.2). Both are symmetric, so that the sums are exact in int32.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quire.interfaces.ops import Ops
from quire.interfaces.quantization import Quantization

if TYPE_CHECKING:
    import torch

    from quire.interfaces.quantization import Product


@dataclass
class W8A8Config:
    """Options of `quantization=w8a8`."""

    skip: list[str] = field(default_factory=list)
    """Names of products to leave in the model's type, such as head or layers.0.*; `*` stands for anything."""


class W8A8(Quantization):
    """int8 weights by row, int8 activations by token; own kernels on a CPU, torch's on a GPU."""

    Config = W8A8Config

    def __init__(self, *, config: W8A8Config, device: str) -> None:
        self.skip = config.skip
        self._device = device

    def linear(self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None, *, name: str, ops: Ops) -> Product:
        del name, ops
        from quire_plugins.quantization.products import int8_product
        from quire_plugins.quantization.rounding import round_rows

        return int8_product(*round_rows(weight_OI), bias_O, device=self._device)
