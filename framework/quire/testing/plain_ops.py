"""The operations of a model as the formulas say, for whatever needs some and tests none of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from quire.interfaces.ops import Activation, Ops

if TYPE_CHECKING:
    import torch


class PlainOps(Ops):
    """Torch, on any device and in any type."""

    def linear(
        self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        from torch.nn import functional

        return partial(functional.linear, weight=weight_OI, bias=bias_O)

    def rms_norm(
        self,
        x_TE: torch.Tensor,
        weight_E: torch.Tensor,
        *,
        eps: float,
        residual_TE: torch.Tensor | None = None,
        unit_offset: bool = False,
    ) -> torch.Tensor:
        from torch.nn import functional

        if residual_TE is not None:
            x_TE = residual_TE.add_(x_TE)
        weight_E = weight_E.float() + (1 if unit_offset else 0)
        return functional.rms_norm(x_TE.float(), list(weight_E.shape), weight_E, eps).to(x_TE.dtype)

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
        cos_T1I, sin_T1I = cos_sin_PR[positions_T, None].chunk(2, dim=-1)
        for x in (q_THD, k_TKD):
            turned = x[..., :dims]
            a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, dim=-1)
            new_a, new_b = a * cos_T1I - b * sin_T1I, b * cos_T1I + a * sin_T1I
            a.copy_(new_a)
            b.copy_(new_b)

    def act_mul(self, gate_up_T2I: torch.Tensor, activation: Activation) -> torch.Tensor:
        from torch.nn import functional

        gate_TI, up_TI = gate_up_T2I.chunk(2, dim=-1)
        if activation is Activation.SILU:
            return functional.silu(gate_TI) * up_TI
        return functional.gelu(gate_TI, approximate="tanh") * up_TI
