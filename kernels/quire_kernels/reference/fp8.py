"""Products in fp8 (e4m3), with a scale for every row of both factors."""

import torch
from torch import Tensor

LARGEST = 448.0


def quantise_rows_fp8(x_TI: Tensor) -> tuple[Tensor, Tensor]:
    """Values [T, I] in e4m3 and float32 scales [T]: x is about values * scales.

    A row with an infinity or a NaN gets a scale of NaN.
    """
    x_TI = x_TI.float()
    largest_T1 = x_TI.abs().amax(dim=1, keepdim=True)
    fine_T1 = x_TI.isfinite().all(dim=1, keepdim=True)
    factors_T1 = torch.where((largest_T1 > 1e-30) & fine_T1, LARGEST / largest_T1, 0.0)
    values_TI = (x_TI * factors_T1).nan_to_num(0.0).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
    return values_TI, torch.where(fine_T1, largest_T1 / LARGEST, torch.nan).squeeze(1)


def fp8_linear(
    values_TI: Tensor,
    scales_T: Tensor,
    weight_OI: Tensor,
    weight_scales_O: Tensor,
    bias_O: Tensor | None,
    out_TO: Tensor,
) -> None:
    """out = (values W^T) * scales_T * weight_scales_O + b, in float64 and rounded once."""
    sums_TO = values_TI.double() @ weight_OI.double().T
    sums_TO = sums_TO * scales_T.double()[:, None] * weight_scales_O.double()
    out_TO.copy_(sums_TO if bias_O is None else sums_TO + bias_O.double())


def grouped_fp8_linear(
    values_TI: Tensor,
    scales_T: Tensor,
    weight_XOI: Tensor,
    weight_scales_XO: Tensor,
    ends_X: Tensor,
    out_TO: Tensor,
) -> None:
    """The same with the g-th weight for rows ends[g - 1]:ends[g]; rows from ends[-1] on are left alone."""
    start = 0
    for end, weight_OI, weight_scales_O in zip(ends_X.tolist(), weight_XOI, weight_scales_XO, strict=True):
        rows = slice(start, end)
        fp8_linear(values_TI[rows], scales_T[rows], weight_OI, weight_scales_O, None, out_TO[rows])
        start = end
