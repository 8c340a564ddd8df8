"""Linear layers with int8 weights and activations."""

import torch
from torch import Tensor
from torch.nn import functional

from quire_kernels.cpu.build import load_kernels

_COLUMNS, _STEP = 48, 4  # of a panel, as in csrc/quantised.h


class Int8Linear:
    """y = x W^T + b in int8: each row of x by its own scale, each row of W by its own, sums exact in int32.

    x is float32 or bfloat16, and so is y. Equal bits for any number of threads and whatever the other rows.
    """

    def __init__(self, values_OI: Tensor, scales_O: Tensor, bias_O: Tensor | None) -> None:
        rows, columns = values_OI.shape
        padded = functional.pad(values_OI, (0, -columns % _STEP, 0, -rows % _COLUMNS))
        panels = padded.view(-1, _COLUMNS, padded.shape[1]).view(torch.int32).transpose(1, 2).contiguous()
        # Plus 128 and without a sign, as the kernel's dot product wants its first operand.
        weight = panels.view(torch.uint8).bitwise_xor_(128).unflatten(-1, (_COLUMNS, _STEP))
        load_kernels()
        self._weight = torch.ops.quire_cpu.hold_weight(weight)
        self._scales_O = scales_O.float().contiguous()
        self._bias_O = None if bias_O is None else bias_O.float().contiguous()
        self._apply = torch.ops.quire_cpu.int8_linear.default

    def __call__(self, x_TI: Tensor) -> Tensor:
        return self._into(x_TI, x_TI.dtype)

    def in_float32(self, x_TI: Tensor) -> Tensor:
        """The same, not rounded to the type of x."""
        return self._into(x_TI, torch.float32)

    def _into(self, x_TI: Tensor, dtype: torch.dtype) -> Tensor:
        out_TO = x_TI.new_empty((x_TI.shape[0], self._scales_O.shape[0]), dtype=dtype)
        self._apply(x_TI, self._weight, self._scales_O, self._bias_O, out_TO)
        return out_TO
