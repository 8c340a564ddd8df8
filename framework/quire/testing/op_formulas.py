"""The operations of a model as formulas, in float64 on the CPU: what a plugin's are compared with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from quire.interfaces.ops import Activation

if TYPE_CHECKING:
    import torch


def wide(x: torch.Tensor) -> torch.Tensor:
    """A tensor's numbers as they are, in float64 on the CPU."""
    import torch

    return x.to("cpu", torch.float64)


def product(x_TI: torch.Tensor, weight_OI: torch.Tensor, bias_O: torch.Tensor | None = None) -> torch.Tensor:
    """x W^T + b."""
    product_TO = wide(x_TI) @ wide(weight_OI).T
    return product_TO if bias_O is None else product_TO + wide(bias_O)


def rms_norm(
    x_TE: torch.Tensor, weight_E: torch.Tensor, *, eps: float, unit_offset: bool = False
) -> torch.Tensor:
    """Zhang & Sennrich, "Root mean square layer normalization", 2019, equation 4."""
    x_TE = wide(x_TE)
    return x_TE / (x_TE.square().mean(-1, keepdim=True) + eps).sqrt() * (wide(weight_E) + unit_offset)


def layer_norm(
    x_TE: torch.Tensor, weight_E: torch.Tensor, bias_E: torch.Tensor | None, *, eps: float
) -> torch.Tensor:
    """Ba et al., "Layer normalization", 2016, section 3."""
    x_TE = wide(x_TE)
    x_TE = x_TE - x_TE.mean(-1, keepdim=True)
    normed_TE = x_TE / (x_TE.square().mean(-1, keepdim=True) + eps).sqrt() * wide(weight_E)
    return normed_TE if bias_E is None else normed_TE + wide(bias_E)


def rotated(
    x_THD: torch.Tensor, positions_T: torch.Tensor, cos_sin_PR: torch.Tensor, *, interleaved: bool
) -> torch.Tensor:
    """Pairs of numbers as complex ones, times their position's (Su et al., RoFormer, 2021, section 3.2)."""
    import torch

    x_THD, half = wide(x_THD), cos_sin_PR.shape[1] // 2
    cos_Tr, sin_Tr = wide(cos_sin_PR)[positions_T.cpu()].split(half, dim=1)
    turned, rest = x_THD.split((2 * half, x_THD.shape[-1] - 2 * half), dim=-1)
    if interleaved:
        pairs = turned.unflatten(-1, (half, 2))
    else:
        pairs = turned.unflatten(-1, (2, half)).transpose(-1, -2)
    numbers_THr = torch.view_as_complex(pairs.contiguous()) * torch.complex(cos_Tr, sin_Tr)[:, None]
    pairs = torch.view_as_real(numbers_THr)
    turned = (pairs if interleaved else pairs.transpose(-1, -2)).flatten(-2)
    return torch.cat((turned, rest), dim=-1)


def gated(gate_up_T2I: torch.Tensor, activation: Activation) -> torch.Tensor:
    """Shazeer, "GLU variants improve transformer", 2020, equation 6; GELU by its tangent (Hendrycks & Gimpel,
    "Gaussian error linear units", 2016, section 2).
    """
    gate_TI, up_TI = wide(gate_up_T2I).chunk(2, dim=-1)
    if activation is Activation.SILU:
        return gate_TI / (1 + (-gate_TI).exp()) * up_TI
    inner_TI = math.sqrt(2 / math.pi) * (gate_TI + 0.044715 * gate_TI**3)
    return 0.5 * gate_TI * (1 + inner_TI.tanh()) * up_TI
