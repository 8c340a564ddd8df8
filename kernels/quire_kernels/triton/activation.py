"""Gated activations (Shazeer, "GLU Variants Improve Transformer", 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire_kernels.triton.checks import check_dtype, check_float, check_rows, check_shape
from quire_kernels.triton.launch import ELEMENTS_PER_PROGRAM, Architecture, Launch
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor

_GELU_SCALE: tl.constexpr = tl.constexpr(1.5957691216057308)  # 2 * sqrt(2 / pi)


def act_mul(gate_up_T2I: Tensor, out_TI: Tensor, *, activation: str) -> None:
    """out = activation(gate) * up; `activation` is "silu" or "gelu_tanh"."""
    if activation not in ("silu", "gelu_tanh"):
        raise ValueError(f"activation {activation!r} is unknown; allowed: 'silu', 'gelu_tanh'")
    tokens, size = out_TI.shape
    check_float("gate_up_T2I", gate_up_T2I)
    check_shape("gate_up_T2I", gate_up_T2I, tokens, 2 * size)
    check_dtype("out_TI", out_TI, gate_up_T2I.dtype)
    check_rows("gate_up_T2I", gate_up_T2I)
    check_rows("out_TI", out_TI)
    if tokens == 0:
        return
    configuration = launch_act_mul(silu=activation == "silu")
    act_mul_kernel[(tokens, triton.cdiv(size, configuration.constants["TILE_I"]))](
        gate_up_T2I,
        out_TI,
        size,
        gate_up_T2I.stride(0),
        out_TI.stride(0),
        **configuration.keywords(),
    )


def launch_act_mul(*, silu: bool) -> Launch:
    """TILE_I columns of one token a program."""
    return Launch(constants={"SILU": silu, "TILE_I": ELEMENTS_PER_PROGRAM}, num_warps=4)


@triton.jit
def act_mul_kernel(gate_up, out, size, stride_gate_up, stride_out, SILU: tl.constexpr, TILE_I: tl.constexpr):
    """Grid (tokens, tiles of TILE_I columns)."""
    token = tl.program_id(0).to(tl.int64)
    column_I = tl.program_id(1) * TILE_I + tl.arange(0, TILE_I)
    row = gate_up + token * stride_gate_up
    gate_I = tl.load(row + column_I, mask=column_I < size).to(tl.float32)
    up_I = tl.load(row + size + column_I, mask=column_I < size).to(tl.float32)
    if SILU:
        gate_I *= tl.sigmoid(gate_I)
    else:
        # gelu_tanh(x) = x / 2 * (1 + tanh(u)) with u = sqrt(2 / pi) * (x + 0.044715 x^3), and 1 + tanh(u) is
        # 2 * sigmoid(2u).
        gate_I *= tl.sigmoid((gate_I + 0.044715 * gate_I * gate_I * gate_I) * _GELU_SCALE)
    tl.store(
        out + token * stride_out + column_I, (gate_I * up_I).to(out.dtype.element_ty), mask=column_I < size
    )


def variants(architecture: Architecture) -> Iterator[Variant]:
    """The same on every architecture."""
    del architecture
    for dtype, silu in (("bf16", True), ("fp32", False)):
        yield Variant(
            name=f"act-{dtype}-{'silu' if silu else 'gelu'}",
            kernel=act_mul_kernel,
            types={"gate_up": f"*{dtype}", "out": f"*{dtype}", "size": "i32"},
            launch=launch_act_mul(silu=silu),
        )
