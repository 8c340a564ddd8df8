"""Products of sorted rows with one weight per group."""

from torch import Tensor

from quire_kernels.reference.precision import accumulate_dtype


def grouped_linear(x_TI: Tensor, weight_XOI: Tensor, ends_X: Tensor, out_TO: Tensor) -> None:
    """Rows ends[g - 1]:ends[g] of x times the g-th weight; rows from ends[-1] on are left alone."""
    dtype = accumulate_dtype(x_TI)
    ends = ends_X.tolist()
    for weight_OI, start, end in zip(weight_XOI, [0, *ends], ends, strict=False):
        out_TO[start:end] = (x_TI[start:end].to(dtype) @ weight_OI.to(dtype).T).to(out_TO.dtype)
