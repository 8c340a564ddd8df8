"""Plain torch on any device: the baseline that faster operations are measured against."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from quire.interfaces.ops import Activation, GroupedProduct, Ops
from quire_plugins.ops.grouped import GroupedMM, runs_grouped_mm

if TYPE_CHECKING:
    import torch


@dataclass
class TorchOpsConfig:
    """Nothing to choose."""


class TorchOps(Ops):
    """Plain torch."""

    Config = TorchOpsConfig

    def __init__(self, *, config: TorchOpsConfig, device: str) -> None:
        del config, device

    def linear(
        self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        from torch.nn import functional

        return partial(functional.linear, weight=weight_OI, bias=bias_O)

    def grouped_linear(self, weights: Iterable[torch.Tensor]) -> GroupedProduct:
        weights = list(weights)
        return GroupedMM(weights) if runs_grouped_mm(weights[0]) else super().grouped_linear(weights)

    def rms_norm(
        self,
        x_TE: torch.Tensor,
        weight_E: torch.Tensor,
        *,
        eps: float,
        residual_TE: torch.Tensor | None = None,
        unit_offset: bool = False,
    ) -> torch.Tensor:
        x = x_TE.float()
        if residual_TE is not None:
            x = x + residual_TE
            residual_TE.copy_(x)
        weight = weight_E.float() + 1 if unit_offset else weight_E.float()
        return (x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight).to(x_TE.dtype)

    def rotary(
        self,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        positions_T: torch.Tensor,
        cos_sin_PR: torch.Tensor,
        *,
        interleaved: bool = False,
    ) -> None:
        dims = cos_sin_PR.shape[-1]
        cos_T1r, sin_T1r = cos_sin_PR[positions_T, None].chunk(2, dim=-1)
        for x in (q_THD, k_TKD):
            turned = x[..., :dims]
            a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, dim=-1)
            new_a, new_b = a * cos_T1r - b * sin_T1r, b * cos_T1r + a * sin_T1r
            a.copy_(new_a)
            b.copy_(new_b)

    def act_mul(self, gate_up_T2I: torch.Tensor, activation: Activation) -> torch.Tensor:
        from torch.nn import functional

        gate, up = gate_up_T2I.float().chunk(2, dim=-1)
        if activation is Activation.SILU:
            return (functional.silu(gate) * up).to(gate_up_T2I.dtype)
        return (functional.gelu(gate, approximate="tanh") * up).to(gate_up_T2I.dtype)
