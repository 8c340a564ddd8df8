"""Products with integer weights: own kernels, but for int8 activations on a GPU, where torch has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from quire.errors import MissingCapability
from quire_plugins.quantization.rounding import round_rows

if TYPE_CHECKING:
    from quire.interfaces.quantization import Product


def int8_product(values_OI: Tensor, scales_O: Tensor, bias_O: Tensor | None, *, device: str) -> Product:
    """x W^T + b with int8 values of x by token; W is int8 values times a scale for each row."""
    if device != "cpu":
        return TorchInt8Linear(values_OI, scales_O, bias_O)
    _require_kernels()
    from quire_kernels.cpu import Int8Linear

    return Int8Linear(values_OI, scales_O, bias_O)


def groupwise_product(
    values_OI: Tensor,
    scales_OG: Tensor,
    zeros_OG: Tensor | None,
    bias_O: Tensor | None,
    *,
    bits: int,
    group_size: int,
    device: str,
) -> Product:
    """x W^T + b with W = scale * (value - zero) by groups of a row's neighbours; x as it is.

    Raises ValueError for bits or groups that the kernel lacks.
    """
    if device == "cpu":
        _require_kernels()
        from quire_kernels.cpu import GroupwiseLinear
    else:
        from quire_kernels.triton import GroupwiseLinear
    return GroupwiseLinear(values_OI, scales_OG, zeros_OG, bias_O, bits=bits, group_size=group_size)


def _require_kernels() -> None:
    from quire_kernels.cpu import KernelBuildError, load_kernels

    try:
        load_kernels()
    except KernelBuildError as error:
        raise MissingCapability(f"quantization: {error}; and quantization=none") from None


class TorchInt8Linear:
    """int8 products by torch's own matrix multiplication, which wants sizes that are multiples of 8."""

    _LEAST_ROWS = 32

    def __init__(self, values_OI: Tensor, scales_O: Tensor, bias_O: Tensor | None) -> None:
        self._outputs, self._inputs = values_OI.shape
        padding = (0, -self._inputs % 8, 0, -self._outputs % 8)
        self._values_IO = functional.pad(values_OI, padding).t()
        self._scales_O = scales_O.float()
        self._bias_O = None if bias_O is None else bias_O.float()

    def __call__(self, x_TI: Tensor) -> Tensor:
        rows = x_TI.shape[0]
        values_TI, scales_T = round_rows(x_TI)
        padding = (0, self._values_IO.shape[0] - self._inputs, 0, max(self._LEAST_ROWS - rows, -rows % 8))
        sums = torch._int_mm(functional.pad(values_TI, padding), self._values_IO)
        out_TO = sums[:rows, : self._outputs].float() * scales_T[:, None] * self._scales_O
        return (out_TO if self._bias_O is None else out_TO + self._bias_O).to(x_TI.dtype)
