"""Products with integer weights."""

import torch
from torch import Tensor


def quantise_rows(x_TI: Tensor) -> tuple[Tensor, Tensor]:
    """int8 values [T, I] of at most 127 and float32 scales [T]: x is about values * scales.

    Rounds to nearest, ties to even. A row with an infinity or a NaN gets a scale of NaN.
    """
    x_TI = x_TI.float()
    largest_T1 = x_TI.abs().amax(dim=1, keepdim=True)
    most = torch.full_like(largest_T1, 127.0)
    factors_T1 = torch.where(largest_T1 > 0, (most / largest_T1).clamp(max=3.4e38), 0.0)
    values_TI = (x_TI * factors_T1).round().nan_to_num(0.0).to(torch.int8)
    return values_TI, torch.where(largest_T1.isfinite(), largest_T1 / most, torch.nan).squeeze(1)


def int8_linear(x_TI: Tensor, values_OI: Tensor, scales_O: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """x W^T + b in float32: x quantised by row, W as int8 values times a scale for each row, sums exact."""
    values_TI, scales_T = quantise_rows(x_TI)
    sums_TO = (values_TI.double() @ values_OI.double().T).float()  # integers below 2 ** 53: exact
    out_TO = sums_TO * scales_T[:, None] * scales_O.float()
    return out_TO if bias_O is None else out_TO + bias_O.float()


def groupwise_linear(
    x_TI: Tensor,
    values_OI: Tensor,
    scales_OG: Tensor,
    zeros_OG: Tensor | None,
    bias_O: Tensor | None = None,
    *,
    bits: int,
    group_size: int,
) -> Tensor:
    """x W^T + b in float64, W[o, i] = scales[o, i / group] (values[o, i] - zeros[o, i / group]).

    Without zeros, the middle 2 ** (bits - 1) is zero.
    """
    columns = values_OI.shape[1]

    def spread(values_OG: Tensor) -> Tensor:
        return values_OG.double().repeat_interleave(group_size, dim=1)[:, :columns]

    zeros = float(1 << (bits - 1)) if zeros_OG is None else spread(zeros_OG)
    out_TO = x_TI.double() @ ((values_OI.double() - zeros) * spread(scales_OG)).T
    return out_TO if bias_O is None else out_TO + bias_O.double()
