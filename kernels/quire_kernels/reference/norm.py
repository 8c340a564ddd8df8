"""RMSNorm (Zhang and Sennrich, 2019)."""

import torch
from torch import Tensor

from quire_kernels.reference.precision import accumulate_dtype


def rms_norm(
    x_TE: Tensor,
    weight_E: Tensor,
    out_TE: Tensor,
    *,
    eps: float,
    residual_TE: Tensor | None = None,
    unit_offset: bool = False,
) -> None:
    """out = x / rms(x) * weight over the last dimension, after residual += x where one is given."""
    dtype = accumulate_dtype(x_TE)
    x = x_TE.to(dtype)
    if residual_TE is not None:
        residual_TE.copy_(x + residual_TE.to(dtype))
        x = residual_TE.to(dtype)
    weight = weight_E.to(dtype) + (1 if unit_offset else 0)
    out_TE.copy_(x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight)
