"""Rotary position embedding (Su et al., 2021)."""

import torch
from torch import Tensor

from quire_kernels.reference.precision import accumulate_dtype


def rotary(
    q_THD: Tensor, k_TKD: Tensor, positions_T: Tensor, cos_sin_PR: Tensor, *, interleaved: bool = False
) -> None:
    """Rotates the first R dimensions of every head of q and k in place."""
    for x in (q_THD, k_TKD):
        _rotate(x, cos_sin_PR[positions_T], interleaved)


def _rotate(x_THD: Tensor, cos_sin_TR: Tensor, interleaved: bool) -> None:
    dims = cos_sin_TR.shape[-1]
    dtype = accumulate_dtype(x_THD)
    cos, sin = cos_sin_TR.to(dtype)[:, None].chunk(2, dim=-1)
    turned = x_THD[..., :dims]
    if interleaved:
        a, b = turned[..., 0::2].to(dtype), turned[..., 1::2].to(dtype)
        halves = torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)
    else:
        a, b = turned.to(dtype).chunk(2, dim=-1)
        halves = torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
    turned.copy_(halves)
