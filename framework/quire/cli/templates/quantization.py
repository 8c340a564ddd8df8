"""Weights in bfloat16, whatever the model computes in: half the memory, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.interfaces import Quantization

if TYPE_CHECKING:
    import torch

    from quire.interfaces import Ops
    from quire.interfaces.quantization import Product


@dataclass
class NewPluginConfig:
    """It has no options."""


class NewPlugin(Quantization):
    """Holds each weight in bfloat16, and widens it for every product."""

    Config = NewPluginConfig

    def __init__(self, *, config: NewPluginConfig, device: str) -> None:
        del config, device

    def linear(self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None, *, name: str, ops: Ops) -> Product:
        from torch.nn import functional

        held_OI = weight_OI.bfloat16()

        def product(x_TI: torch.Tensor, /) -> torch.Tensor:
            return functional.linear(x_TI, held_OI.to(x_TI.dtype), bias_O)

        return product
