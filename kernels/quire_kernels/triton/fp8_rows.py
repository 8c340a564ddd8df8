"""Rows in fp8 with a scale each (Micikevicius et al., "FP8 formats for deep learning", 2022; scales as in
Xiao et al., "SmoothQuant", 2023, section 2). The format is e4m3: at most 448, a zero of either sign, no
infinity.

Suffixes of shapes: T tokens, I inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire_kernels.triton.checks import check_float, check_interpreted, check_rows
from quire_kernels.triton.launch import Launch
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 448.0
_LARGEST: tl.constexpr = tl.constexpr(LARGEST)
_LARGEST_FLOAT: tl.constexpr = tl.constexpr(3.4028234e38)
_ROW_TILE = 2048


def quantise_rows_fp8(x_TI: Tensor) -> tuple[Tensor, Tensor]:
    """Values [T, I] in e4m3 and float32 scales [T]: x is about values * scales.

    A row with an infinity or a NaN gets a scale of NaN.
    """
    import torch

    tokens, inputs = x_TI.shape
    check_float("x_TI", x_TI)
    check_interpreted("x_TI", x_TI)
    check_rows("x_TI", x_TI)
    values_TI = x_TI.new_empty((tokens, inputs), dtype=torch.float8_e4m3fn)
    scales_T = x_TI.new_empty(tokens, dtype=torch.float32)
    if tokens:
        quantise_rows_fp8_kernel[(tokens,)](
            x_TI, values_TI, scales_T, inputs, x_TI.stride(0), values_TI.stride(0),
            **launch_quantise_rows_fp8().keywords(),
        )  # fmt: skip
    return values_TI, scales_T


@cache
def launch_quantise_rows_fp8() -> Launch:
    """One row a program, TILE_I of it at a time."""
    return Launch(constants={"TILE_I": _ROW_TILE}, num_warps=4)


@triton.jit
def quantise_rows_fp8_kernel(x, values, scales, inputs, stride_x, stride_values, TILE_I: tl.constexpr):
    """Grid (tokens). The second time through a row finds it in the cache."""
    token = tl.program_id(0).to(tl.int64)
    row = x + token * stride_x
    input_I = tl.arange(0, TILE_I)
    largest_I = tl.zeros([TILE_I], dtype=tl.float32)
    broken_I = tl.zeros([TILE_I], dtype=tl.int32)
    for start in range(0, inputs, TILE_I):
        x_I = tl.load(row + start + input_I, mask=input_I < inputs - start, other=0.0).to(tl.float32)
        broken_I |= 1 - (tl.abs(x_I) <= _LARGEST_FLOAT).to(tl.int32)  # infinite or not a number
        largest_I = tl.maximum(largest_I, tl.abs(x_I))
    largest = tl.max(largest_I, 0)
    broken = tl.max(broken_I, 0)
    # Of a row of zeros, or of numbers too small to be told from them, the values are zeros.
    is_fine = (largest > 1e-30) & (largest <= _LARGEST_FLOAT) & (broken == 0)
    factor = tl.where(is_fine, _LARGEST / tl.maximum(largest, 1e-30), 0.0)
    for start in range(0, inputs, TILE_I):
        inside_I = input_I < inputs - start
        x_I = tl.load(row + start + input_I, mask=inside_I, other=0.0).to(tl.float32)
        x_I = tl.where(tl.abs(x_I) <= _LARGEST_FLOAT, x_I, 0.0)
        scaled_I = tl.clamp(x_I * factor, -_LARGEST, _LARGEST)
        tl.store(
            values + token * stride_values + start + input_I,
            scaled_I.to(values.dtype.element_ty),
            mask=inside_I,
        )
    tl.store(scales + token, tl.where(broken > 0, float("nan"), largest / _LARGEST))


def row_variants() -> Iterator[Variant]:
    """The same everywhere that fp8 is."""
    for dtype in ("bf16", "fp16", "fp32"):
        yield Variant(
            name=f"quantise-rows-fp8-{dtype}",
            kernel=quantise_rows_fp8_kernel,
            types={"x": f"*{dtype}", "values": "*fp8e4nv", "scales": "*fp32"},
            launch=launch_quantise_rows_fp8(),
            aligned=frozenset({"inputs"}),
        )
