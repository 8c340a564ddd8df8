"""Products with weights of 4 or 8 bits by groups, activations as they are (Frantar et al., "GPTQ", 2022; the
layout follows Frantar et al., "MARLIN", 2024, section 3: what a program reads at once lies together).

Integers become floats exactly, are multiplied as such, and a group's sum takes its scale afterwards, so the
product is as exact as the activations' type. A group of the kernel is 32, 64 or 128 neighbours; with 4 bits,
a byte holds one of the first half of its group and one of the second:

    byte j of a group of 32     bits 0-3: value j     bits 4-7: value 16 + j

Suffixes of shapes: X experts (1 without), G groups along the inputs, O outputs, B bytes of a group, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import triton

from quire_kernels.triton import launch
from quire_kernels.triton.checks import check_dtype, check_float, check_interpreted, check_rows, check_shape
from quire_kernels.triton.groupwise_kernel import groupwise_kernel, launch_groupwise
from quire_kernels.triton.groupwise_kernel import variants as variants
from quire_kernels.triton.products import count_shares, sum_shares
from quire_kernels.triton.row_groups import count_tiles

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GROUPS = (32, 64, 128)


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedGroups:
    """Integer weights as the kernel reads them; `zeros_XGO` None stands for the middle, 2 ** (bits - 1)."""

    values_XGOB: Tensor
    scales_XGO: Tensor
    zeros_XGO: Tensor | None
    bits: int
    group: int
    inputs: int
    outputs: int

    @classmethod
    def stack(cls, experts: Sequence[PackedGroups]) -> PackedGroups:
        """Weights of one shape as those of one product's experts. Raises ValueError if they are packed in
        different ways.
        """
        import torch

        first = experts[0]
        if any((each.bits, each.group) != (first.bits, first.group) for each in experts):
            ways = sorted({f"{each.bits} bits in groups of {each.group}" for each in experts})
            raise ValueError(f"experts have {' and '.join(ways)}; expected all alike")
        if any((each.zeros_XGO is None) != (first.zeros_XGO is None) for each in experts):
            raise ValueError("some experts have zeros and others none; expected all alike")
        zeros = [each.zeros_XGO for each in experts if each.zeros_XGO is not None]
        return cls(
            values_XGOB=torch.cat([each.values_XGOB for each in experts]),
            scales_XGO=torch.cat([each.scales_XGO for each in experts]),
            zeros_XGO=torch.cat(zeros) if zeros else None,
            bits=first.bits,
            group=first.group,
            inputs=first.inputs,
            outputs=first.outputs,
        )


def pack_groups(
    values_OI: Tensor, scales_OG: Tensor, zeros_OG: Tensor | None, *, bits: int, group_size: int
) -> PackedGroups:
    """`values_OI` is uint8, each below 2 ** bits; a weight is scale * (value - zero).

    Raises ValueError for bits other than 4 and 8, and groups that are not 32, 64, a multiple of 128 or a row.
    """
    import torch
    from torch.nn import functional

    outputs, inputs = values_OI.shape
    if bits not in (4, 8):
        raise ValueError(f"bits is {bits}; allowed: 4, 8")
    group = _kernel_group(group_size, inputs)
    padded = functional.pad(values_OI, (0, -inputs % group)).view(outputs, -1, group)
    if bits == 4:
        low, high = padded.chunk(2, dim=2)
        padded = low | high << 4
    groups = padded.shape[1]
    spread = torch.arange(groups, device=values_OI.device) * group // group_size

    def by_group(parts_OG: Tensor) -> Tensor:
        return parts_OG.float()[:, spread].t().contiguous()[None]

    return PackedGroups(
        values_XGOB=padded.transpose(0, 1).contiguous()[None],
        scales_XGO=by_group(scales_OG),
        zeros_XGO=None if zeros_OG is None else by_group(zeros_OG),
        bits=bits,
        group=group,
        inputs=inputs,
        outputs=outputs,
    )


def _kernel_group(group_size: int, inputs: int) -> int:
    """The group that the kernel works with: each of the checkpoint's is one or several of it."""
    if group_size >= inputs or group_size % 128 == 0:
        return 128
    if group_size not in GROUPS:
        raise ValueError(f"group_size is {group_size}; allowed: 32, 64, a multiple of 128, or the whole row")
    return group_size


def groupwise_linear(
    x_TI: Tensor, weight: PackedGroups, bias_O: Tensor | None, out_TO: Tensor, *, ends_X: Tensor | None = None
) -> None:
    """out = x W^T + b, in the type of `out`: that of x, or float32.

    With `ends_X` rows ends[g - 1]:ends[g] of x meet the g-th expert; there is no bias then.
    """
    import torch

    tokens = x_TI.shape[0]
    check_float("x_TI", x_TI)
    check_interpreted("x_TI", x_TI)
    check_shape("x_TI", x_TI, tokens, weight.inputs)
    check_shape("out_TO", out_TO, tokens, weight.outputs)
    check_dtype("out_TO", out_TO, x_TI.dtype, torch.float32)
    check_rows("x_TI", x_TI)
    check_rows("out_TO", out_TO)
    experts = None
    if bias_O is not None:
        check_shape("bias_O", bias_O, weight.outputs)
        if ends_X is not None:
            raise ValueError("bias_O is given with ends_X; experts have none")
    if ends_X is not None:
        experts = weight.values_XGOB.shape[0]
        check_shape("ends_X", ends_X, experts)
        check_dtype("ends_X", ends_X, torch.int32)
    if tokens == 0:
        return
    architecture = launch.architecture_of(x_TI.device)
    configuration = launch_groupwise(
        architecture,
        itemsize=x_TI.element_size(),
        bits=weight.bits,
        group=weight.group,
        tokens=triton.next_power_of_2(tokens),
        experts=experts,
    )
    tiles = count_tiles(rows=tokens, groups=experts, tile=configuration.constants["TILE_T"])
    output_tiles = triton.cdiv(weight.outputs, configuration.constants["TILE_O"])
    shares = 1
    if experts is None:
        shares = count_shares(architecture, tiles=tiles * output_tiles, inputs=weight.inputs)
    target, target_bias = out_TO, bias_O
    if shares > 1:
        target, target_bias = x_TI.new_empty((shares, tokens, weight.outputs), dtype=torch.float32), None
    groupwise_kernel[(tiles, output_tiles, shares)](
        x_TI,
        weight.values_XGOB,
        weight.scales_XGO,
        weight.zeros_XGO,
        target_bias,
        ends_X,
        target,
        tokens,
        1 if experts is None else experts,
        weight.inputs,
        weight.outputs,
        weight.values_XGOB.shape[1],
        x_TI.stride(0),
        target.stride(0) if shares > 1 else 0,
        target.stride(-2),
        **configuration.keywords(),
    )
    if shares > 1:
        sum_shares(target, bias_O, out_TO)


class GroupwiseLinear:
    """y = x W^T + b, W[o, i] = scales[o, g] (values[o, i] - zeros[o, g]) for g = i / group_size."""

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
        """As `pack_groups`, which says what is allowed."""
        self._weight = pack_groups(values_OI, scales_OG, zeros_OG, bits=bits, group_size=group_size)
        self._bias_O = bias_O

    def __call__(self, x_TI: Tensor) -> Tensor:
        return self._into(x_TI, x_TI.dtype)

    def in_float32(self, x_TI: Tensor) -> Tensor:
        """The same, not rounded to the type of x."""
        import torch

        return self._into(x_TI, torch.float32)

    def _into(self, x_TI: Tensor, dtype: torch.dtype) -> Tensor:
        out_TO = x_TI.new_empty((x_TI.shape[0], self._weight.outputs), dtype=dtype)
        groupwise_linear(x_TI, self._weight, self._bias_O, out_TO)
        return out_TO


class GroupedGroupwiseLinear:
    """The products of several such weights of one shape, each with its own rows: `grouped_linear` of them."""

    capturable = True
    """Nothing is asked of the device."""

    def __init__(self, experts: Sequence[PackedGroups]) -> None:
        self._weight = PackedGroups.stack(experts)

    def __call__(self, x_TI: Tensor, ends_X: Tensor) -> Tensor:
        out_TO = x_TI.new_empty((x_TI.shape[0], self._weight.outputs))
        groupwise_linear(x_TI, self._weight, None, out_TO, ends_X=ends_X)
        return out_TO
