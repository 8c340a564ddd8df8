"""Weights and activations in 8-bit floats (Micikevicius et al., "FP8 formats for deep learning", 2022).

Every row of a weight has a scale, fixed at loading; every token's activations have one, found as they come.
Half of bfloat16's memory, and on Hopper twice its rate of operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from quire.errors import MissingCapability
from quire.interfaces.ops import Ops
from quire.interfaces.quantization import Quantization

if TYPE_CHECKING:
    import torch

    from quire.interfaces.ops import GroupedProduct
    from quire.interfaces.quantization import Product

Made = TypeVar("Made")


@dataclass
class Fp8Config:
    """Options of `quantization=fp8`."""

    skip: list[str] = field(default_factory=lambda: ["head"])
    """Names of products to leave in the model's type, such as head or layers.0.*; `*` stands for anything."""


class Fp8(Quantization):
    """fp8 (e4m3) weights by row, fp8 activations by token; own kernels, on Hopper GPUs only."""

    Config = Fp8Config
    devices = frozenset({"cuda"})

    def __init__(self, *, config: Fp8Config, device: str) -> None:
        self.skip = config.skip
        if device == "cpu":
            raise MissingCapability(
                "quantization=fp8: a CPU multiplies no fp8; quantization=w8a8 is int8 and runs on it"
            )

    def linear(self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None, *, name: str, ops: Ops) -> Product:
        del name, ops
        from quire_kernels.triton import Fp8Linear

        return _on_hopper(lambda: Fp8Linear(weight_OI, bias_O))

    def grouped_linear(self, weights: Iterable[torch.Tensor], *, name: str, ops: Ops) -> GroupedProduct:
        """One launch for all experts, with no question to the device."""
        del name, ops
        from quire_kernels.triton import GroupedFp8Linear

        return _on_hopper(lambda: GroupedFp8Linear(weights))


def _on_hopper(make: Callable[[], Made]) -> Made:
    """What is made, or MissingCapability where the GPU has no fp8."""
    try:
        return make()
    except ValueError as error:
        raise MissingCapability(
            f"quantization=fp8: {error}; quantization=w8a8 and w8a16 run on others"
        ) from None
