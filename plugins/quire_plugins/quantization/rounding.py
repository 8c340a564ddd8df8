"""Rounding to the nearest integer: from floats to values, scales and zeros."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def round_rows(x_TI: Tensor) -> tuple[Tensor, Tensor]:
    """int8 values of at most 127 [T, I] and float32 scales [T], so that x is about values * scales.

    A row with an infinity or a NaN gets a scale of NaN.
    """
    x_TI = x_TI.float()
    largest_T1 = x_TI.abs().amax(dim=1, keepdim=True)
    most = torch.full_like(largest_T1, 127.0)
    factors_T1 = torch.where(largest_T1 > 0, (most / largest_T1).clamp(max=3.4e38), 0.0)
    values = (x_TI * factors_T1).round().nan_to_num(0.0).to(torch.int8)
    scales_T = torch.where(largest_T1.isfinite(), largest_T1 / most, torch.nan).squeeze(1)
    return values, scales_T


def round_groups(
    weight_OI: Tensor, *, bits: int, group_size: int, symmetric: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """uint8 values [O, I] below 2 ** bits, float32 scales [O, G], and zeros [O, G] unless `symmetric`.

    Asymmetric, a group's least and greatest weight are the ends of the range, which always holds 0;
    symmetric, the range is -(2 ** (bits - 1)) to 2 ** (bits - 1) - 1 scales.
    """
    rows, columns = weight_OI.shape
    last = (1 << bits) - 1
    # A last group that is short is filled with its own last weight, which moves neither end of its range.
    padded = functional.pad(weight_OI.float()[None], (0, -columns % group_size), mode="replicate")[0]
    grouped_OGg = padded.view(rows, -1, group_size)
    if symmetric:
        middle = 1 << (bits - 1)
        scales_OG = grouped_OGg.abs().amax(dim=2) / (middle - 0.5)
        zeros_OG = torch.full_like(scales_OG, middle)
    else:
        low_OG = grouped_OGg.amin(dim=2).clamp(max=0.0)
        scales_OG = (grouped_OGg.amax(dim=2).clamp(min=0.0) - low_OG) / last
        zeros_OG = torch.where(scales_OG > 0, -low_OG / scales_OG, 0.0).round()
    inverse_OG = torch.where(scales_OG > 0, 1.0 / scales_OG, 0.0)
    values = (grouped_OGg * inverse_OG[:, :, None] + zeros_OG[:, :, None]).round().clamp(0, last)
    values_OI = values.to(torch.uint8).view(rows, -1)[:, :columns].contiguous()
    return values_OI, scales_OG, None if symmetric else zeros_OG.to(torch.uint8)
