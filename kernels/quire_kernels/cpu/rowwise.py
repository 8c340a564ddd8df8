"""What a transformer block does row by row, in C++."""

import torch
from torch import Tensor

from quire_kernels.cpu.build import load_kernels


def rms_norm(
    x_TE: Tensor,
    weight_E: Tensor,
    out_TE: Tensor,
    *,
    eps: float,
    residual_TE: Tensor | None = None,
    unit_offset: bool = False,
) -> None:
    """out = x / rms(x) * weight over the last dimension, after residual += x where one is given.

    Takes [T, E] and, for the norms of single heads, [T, H, E]; `out_TE` may be `x_TE`.
    """
    load_kernels()
    torch.ops.quire_cpu.rms_norm(x_TE, weight_E, out_TE, eps, residual_TE, unit_offset)


def rotary(
    q_THD: Tensor, k_TKD: Tensor, positions_T: Tensor, cos_sin_PR: Tensor, *, interleaved: bool = False
) -> None:
    """Rotates the first R dimensions of every head of q and k in place."""
    load_kernels()
    torch.ops.quire_cpu.rotary(q_THD, k_TKD, positions_T, cos_sin_PR, interleaved)


def act_mul(gate_up_T2I: Tensor, out_TI: Tensor, *, activation: str) -> None:
    """out = activation(gate) * up; `activation` is "silu" or "gelu_tanh"."""
    load_kernels()
    torch.ops.quire_cpu.act_mul(gate_up_T2I, out_TI, activation)
