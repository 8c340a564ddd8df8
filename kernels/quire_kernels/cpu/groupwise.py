"""Linear layers with weights of 4 or 8 bits and activations as they are."""

import torch
from torch import Tensor
from torch.nn import functional

from quire_kernels.cpu.build import load_kernels

_COLUMNS, _STEP, _MAX_GROUP = 48, 8, 128  # as in csrc/quantised.h


class GroupwiseLinear:
    """y = x W^T + b, W[o, i] = scales[o, i / group] (values[o, i] - zeros[o, i / group]), never held as such.

    x is float32 or bfloat16, and so is y. Equal bits for any number of threads and whatever the other rows.
    """

    def __init__(
        self,
        values_OI: Tensor,
        scales_OG: Tensor,
        zeros_OG: Tensor | None,
        bias_O: Tensor | None,
        *,
        bits: int,
        group_size: int,
    ) -> None:
        """`values_OI` and `zeros_OG` are uint8, each below 2 ** bits; without zeros, 2 ** (bits - 1) is zero.

        Raises:
            ValueError: bits other than 4 and 8, or groups that cannot be cut into ones of at most 128.
        """
        rows, columns = values_OI.shape
        if bits not in (4, 8):
            raise ValueError(f"bits is {bits}; allowed: 4, 8")
        self._bits, self._group = bits, _kernel_group(group_size, columns)
        self._columns = rows
        padded = functional.pad(values_OI, (0, -columns % _STEP, 0, -rows % _COLUMNS))
        load_kernels()
        self._weight = torch.ops.quire_cpu.hold_weight(_pack(padded, bits))
        starts_G = torch.arange(0, columns, self._group, device=values_OI.device) // group_size
        self._scales = _panels(scales_OG.float()[:, starts_G])
        self._zeros = None if zeros_OG is None else _panels(zeros_OG[:, starts_G])
        self._bias_O = None if bias_O is None else bias_O.float().contiguous()
        self._apply = torch.ops.quire_cpu.groupwise_linear.default

    def __call__(self, x_TI: Tensor) -> Tensor:
        return self._into(x_TI, x_TI.dtype)

    def in_float32(self, x_TI: Tensor) -> Tensor:
        """The same, not rounded to the type of x."""
        return self._into(x_TI, torch.float32)

    def _into(self, x_TI: Tensor, dtype: torch.dtype) -> Tensor:
        out_TO = x_TI.new_empty((x_TI.shape[0], self._columns), dtype=dtype)
        self._apply(
            x_TI, self._weight, self._scales, self._zeros, self._bias_O, self._bits, self._group, out_TO
        )
        return out_TO


def _kernel_group(group_size: int, columns: int) -> int:
    """The group that the kernel works with: each of the checkpoint's is one or several of it."""
    if group_size >= columns:
        return _MAX_GROUP
    if group_size > _MAX_GROUP and group_size % _MAX_GROUP == 0:
        return _MAX_GROUP
    if group_size > _MAX_GROUP or group_size < _STEP or group_size % _STEP:
        raise ValueError(
            f"group_size is {group_size}; it must be a multiple of {_STEP} up to {_MAX_GROUP}, "
            f"a multiple of {_MAX_GROUP}, or the whole row"
        )
    return group_size


def _pack(values_OI: Tensor, bits: int) -> Tensor:
    """[N / 48, L / per lane, 48] int32; within a lane, pairs of neighbours lie 16 bits apart."""
    pairs = 16 // bits
    grouped = values_OI.view(-1, _COLUMNS, values_OI.shape[1] // (2 * pairs), pairs, 2)
    lanes = torch.zeros_like(grouped[:, :, :, 0, 0], dtype=torch.int32)
    for pair in range(pairs):
        for odd in range(2):
            lanes |= grouped[:, :, :, pair, odd].int() << (bits * pair + 16 * odd)
    return lanes.transpose(1, 2).contiguous()


def _panels(values_OG: Tensor) -> Tensor:
    """[O, G] -> [N / 48, G, 48]."""
    padded = functional.pad(values_OG, (0, 0, 0, -values_OG.shape[0] % _COLUMNS))
    return padded.view(-1, _COLUMNS, padded.shape[1]).transpose(1, 2).contiguous()
