"""Products in fp8: weights by row, activations by token, each with its scale (Micikevicius et al., "FP8
formats for deep learning", 2022; scales as in Xiao et al., "SmoothQuant", 2023, section 2).

The format is e4m3: at most 448, a zero of either sign, no infinity. Hopper's matrix units keep some 14 bits
of their sums; every tile's sum is therefore added in float32.

Suffixes of shapes: T tokens, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire_kernels.triton import launch
from quire_kernels.triton.checks import check_dtype, check_float, check_interpreted, check_rows, check_shape
from quire_kernels.triton.launch import Architecture, Launch
from quire_kernels.triton.products import Tile, count_shares, sum_shares, token_tile
from quire_kernels.triton.tuned import remembers_tiles, tile_for
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LARGEST = 448.0
_LARGEST: tl.constexpr = tl.constexpr(LARGEST)
_LARGEST_FLOAT: tl.constexpr = tl.constexpr(3.4028234e38)
_ROW_TILE = 2048
_TILES = {
    16: Tile(64, 128, 4, 4),
    32: Tile(64, 128, 4, 4),
    64: Tile(64, 128, 4, 3),
    128: Tile(128, 128, 8, 3),
}


def has_fp8(architecture: Architecture) -> bool:
    """Whether the matrix units take e4m3; gfx942 has another format of that name."""
    return architecture.name == "sm_90"


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


@remembers_tiles
def launch_fp8(architecture: Architecture, *, tokens: int) -> Launch:
    """TILE_T tokens by TILE_O outputs, TILE_I inputs at a time."""
    tile_t = token_tile(architecture, tokens=tokens, groups=None, itemsize=1)
    tile = tile_for(architecture, "fp8", f"t{tile_t}", _TILES[tile_t])
    return Launch(
        constants={"TILE_T": tile_t, "TILE_O": tile.o, "TILE_I": tile.i},
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def fp8_linear(
    values_TI: Tensor,
    scales_T: Tensor,
    weight_OI: Tensor,
    weight_scales_O: Tensor,
    bias_O: Tensor | None,
    out_TO: Tensor,
) -> None:
    """out = (values W^T) * scales_T * weight_scales_O + b, summed in float32."""
    import torch

    architecture = launch.architecture_of(values_TI.device)
    if not has_fp8(architecture):
        raise ValueError(f"GPU {architecture.name} multiplies no fp8 (e4m3); supported: sm_90")
    tokens, inputs = values_TI.shape
    outputs = weight_OI.shape[0]
    check_shape("weight_OI", weight_OI, outputs, inputs)
    check_shape("scales_T", scales_T, tokens)
    check_shape("weight_scales_O", weight_scales_O, outputs)
    check_shape("out_TO", out_TO, tokens, outputs)
    check_float("out_TO", out_TO)
    for name, tensor in (("values_TI", values_TI), ("weight_OI", weight_OI)):
        check_dtype(name, tensor, torch.float8_e4m3fn)
    for name, tensor in (("scales_T", scales_T), ("weight_scales_O", weight_scales_O)):
        check_dtype(name, tensor, torch.float32)
        check_rows(name, tensor)
    for name, tensor in (("values_TI", values_TI), ("weight_OI", weight_OI), ("out_TO", out_TO)):
        check_rows(name, tensor)
    if bias_O is not None:
        check_shape("bias_O", bias_O, outputs)
    if tokens == 0:
        return
    configuration = launch_fp8(architecture, tokens=triton.next_power_of_2(tokens))
    tiles = triton.cdiv(tokens, configuration.constants["TILE_T"])
    output_tiles = triton.cdiv(outputs, configuration.constants["TILE_O"])
    shares = count_shares(architecture, tiles=tiles * output_tiles, inputs=inputs)
    target, target_bias = out_TO, bias_O
    if shares > 1:
        target, target_bias = out_TO.new_empty((shares, tokens, outputs), dtype=torch.float32), None
    fp8_linear_kernel[(tiles, output_tiles, shares)](
        values_TI, scales_T, weight_OI, weight_scales_O, target_bias, target, tokens, inputs, outputs,
        values_TI.stride(0), weight_OI.stride(0), target.stride(0) if shares > 1 else 0, target.stride(-2),
        **configuration.keywords(),
    )  # fmt: skip
    if shares > 1:
        sum_shares(target, bias_O, out_TO)


@triton.jit(do_not_specialize=["tokens"])
def fp8_linear_kernel(
    x,
    x_scales,
    weight,
    weight_scales,
    bias,
    out,
    tokens,
    inputs,
    outputs,
    stride_x,
    stride_weight,
    stride_out_share,
    stride_out,
    TILE_T: tl.constexpr,
    TILE_O: tl.constexpr,
    TILE_I: tl.constexpr,
):
    """Grid (tiles of tokens, tiles of outputs, shares of the inputs). `bias` may be None.

    With several shares `out` is float32, [shares, tokens, outputs], and `bias` None.
    """
    token_T = tl.program_id(0) * TILE_T + tl.arange(0, TILE_T)
    output_O = tl.program_id(1) * TILE_O + tl.arange(0, TILE_O)
    input_I = tl.arange(0, TILE_I)
    token_is_T, output_is_O = token_T < tokens, output_O < outputs
    x_IT = x + token_T.to(tl.int64)[None, :] * stride_x + input_I[:, None]
    weight_OI = weight + output_O.to(tl.int64)[:, None] * stride_weight + input_I[None, :]
    share = tl.program_id(2)
    tiles_a_share = tl.cdiv(tl.cdiv(inputs, TILE_I), tl.num_programs(2))
    low = share * tiles_a_share * TILE_I
    sum_OT = tl.zeros([TILE_O, TILE_T], dtype=tl.float32)
    for start in range(low, tl.minimum(low + tiles_a_share * TILE_I, inputs), TILE_I):
        input_is_I = input_I < inputs - start
        w_OI = tl.load(weight_OI + start, mask=output_is_O[:, None] & input_is_I[None, :], other=0.0)
        x_tile_IT = tl.load(x_IT + start, mask=token_is_T[None, :] & input_is_I[:, None], other=0.0)
        sum_OT += tl.dot(w_OI, x_tile_IT)
    sum_OT *= tl.load(weight_scales + output_O, mask=output_is_O, other=0.0)[:, None]
    sum_OT *= tl.load(x_scales + token_T, mask=token_is_T, other=0.0)[None, :]
    if bias is not None:
        sum_OT += tl.load(bias + output_O, mask=output_is_O, other=0.0).to(tl.float32)[:, None]
    out_TO = out + share.to(tl.int64) * stride_out_share + token_T.to(tl.int64)[:, None] * stride_out
    tl.store(
        out_TO + output_O[None, :],
        tl.trans(sum_OT).to(out.dtype.element_ty),
        mask=token_is_T[:, None] & output_is_O[None, :],
    )


class Fp8Linear:
    """y = x W^T + b in fp8; y is in the type of x."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None) -> None:
        """Keeps the weight in fp8. Raises ValueError on a GPU without it."""
        architecture = launch.architecture_of(weight_OI.device)
        if not has_fp8(architecture):
            raise ValueError(f"GPU {architecture.name} multiplies no fp8 (e4m3); supported: sm_90")
        self._weight_OI, self._scales_O = quantise_rows_fp8(weight_OI)
        self._bias_O = bias_O

    def __call__(self, x_TI: Tensor) -> Tensor:
        return self._into(x_TI, x_TI.dtype)

    def in_float32(self, x_TI: Tensor) -> Tensor:
        """The same, not rounded to the type of x."""
        import torch

        return self._into(x_TI, torch.float32)

    def _into(self, x_TI: Tensor, dtype: torch.dtype) -> Tensor:
        out_TO = x_TI.new_empty((x_TI.shape[0], self._weight_OI.shape[0]), dtype=dtype)
        fp8_linear(*quantise_rows_fp8(x_TI), self._weight_OI, self._scales_O, self._bias_O, out_TO)
        return out_TO


def variants(architecture: Architecture) -> Iterator[Variant]:
    """Rows of weights and activations everywhere that fp8 is; products of few tokens and of many."""
    if not has_fp8(architecture):
        return
    for dtype in ("bf16", "fp16", "fp32"):
        yield Variant(
            name=f"quantise-rows-fp8-{dtype}",
            kernel=quantise_rows_fp8_kernel,
            types={"x": f"*{dtype}", "values": "*fp8e4nv", "scales": "*fp32"},
            launch=launch_quantise_rows_fp8(),
            aligned=frozenset({"inputs"}),
        )
    for dtype, tokens, bias in (
        ("fp32", 1, None),
        ("fp32", 32, None),
        ("bf16", 64, None),
        ("bf16", 4096, None),
        ("fp16", 4096, "*fp16"),
    ):
        configuration = launch_fp8(architecture, tokens=tokens)
        yield Variant(
            name=f"fp8-{dtype}-t{configuration.constants['TILE_T']}",
            kernel=fp8_linear_kernel,
            types={
                **dict.fromkeys(("x", "weight"), "*fp8e4nv"),
                **dict.fromkeys(("x_scales", "weight_scales"), "*fp32"),
                "bias": bias,
                "out": f"*{dtype}",
                "tokens": "i32",
            },
            launch=configuration,
            aligned=frozenset({"inputs", "outputs"}),
        )
