"""Products in fp8: weights by row, activations by token, each with its scale (see `fp8_rows`).

Hopper's matrix units keep some 14 bits of their sums; every tile's sum is therefore added in float32.

Suffixes of shapes: X experts (1 without), T tokens, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire_kernels.triton import launch
from quire_kernels.triton.checks import check_dtype, check_float, check_rows, check_shape
from quire_kernels.triton.fp8_rows import quantise_rows_fp8, row_variants
from quire_kernels.triton.launch import Architecture, Launch
from quire_kernels.triton.products import Tile, count_shares, sum_shares, token_tile
from quire_kernels.triton.row_groups import count_places, count_tiles, find_rows
from quire_kernels.triton.tuned import remembers_tiles, tile_for
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_TILES = {
    16: Tile(64, 128, 4, 4),
    32: Tile(64, 128, 4, 4),
    64: Tile(64, 128, 4, 3),
    128: Tile(128, 128, 8, 3),
}


def has_fp8(architecture: Architecture) -> bool:
    """Whether the matrix units take e4m3; gfx942 has another format of that name."""
    return architecture.name == "sm_90"


def require_fp8(device: torch.device) -> Architecture:
    """The architecture of a device. Raises ValueError if it has no fp8."""
    architecture = launch.architecture_of(device)
    if not has_fp8(architecture):
        raise ValueError(f"GPU {architecture.name} multiplies no fp8 (e4m3); supported: sm_90")
    return architecture


@remembers_tiles
def launch_fp8(architecture: Architecture, *, tokens: int, experts: int | None) -> Launch:
    """TILE_T tokens by TILE_O outputs, TILE_I inputs at a time."""
    tile_t = token_tile(architecture, tokens=tokens, groups=experts, itemsize=1)
    tile = tile_for(architecture, "fp8", f"t{tile_t}", _TILES[tile_t])
    return Launch(
        constants={"TILE_T": tile_t, "TILE_O": tile.o, "TILE_I": tile.i, "EXPERTS": count_places(experts)},
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
    if bias_O is not None:
        check_shape("bias_O", bias_O, weight_OI.shape[0])
    _multiply(values_TI, scales_T, weight_OI[None], weight_scales_O[None], bias_O, None, out_TO)


def grouped_fp8_linear(
    values_TI: Tensor,
    scales_T: Tensor,
    weight_XOI: Tensor,
    weight_scales_XO: Tensor,
    ends_X: Tensor,
    out_TO: Tensor,
) -> None:
    """The same with the g-th weight for rows ends[g - 1]:ends[g]; rows from ends[-1] on are left alone."""
    import torch

    check_shape("ends_X", ends_X, weight_XOI.shape[0])
    check_dtype("ends_X", ends_X, torch.int32)
    check_rows("ends_X", ends_X)
    _multiply(values_TI, scales_T, weight_XOI, weight_scales_XO, None, ends_X, out_TO)


def _multiply(
    values_TI: Tensor,
    scales_T: Tensor,
    weight_XOI: Tensor,
    weight_scales_XO: Tensor,
    bias_O: Tensor | None,
    ends_X: Tensor | None,
    out_TO: Tensor,
) -> None:
    import torch

    architecture = require_fp8(values_TI.device)
    tokens, inputs = values_TI.shape
    experts, outputs, _ = weight_XOI.shape
    check_shape("weight", weight_XOI, experts, outputs, inputs)
    check_shape("scales_T", scales_T, tokens)
    check_shape("weight_scales", weight_scales_XO, experts, outputs)
    check_shape("out_TO", out_TO, tokens, outputs)
    check_float("out_TO", out_TO)
    for name, tensor in (("values_TI", values_TI), ("weight", weight_XOI)):
        check_dtype(name, tensor, torch.float8_e4m3fn)
    for name, tensor in (("scales_T", scales_T), ("weight_scales", weight_scales_XO)):
        check_dtype(name, tensor, torch.float32)
        check_rows(name, tensor)
    for name, tensor in (("values_TI", values_TI), ("weight", weight_XOI), ("out_TO", out_TO)):
        check_rows(name, tensor)
    if tokens == 0:
        return
    groups = None if ends_X is None else experts
    configuration = launch_fp8(architecture, tokens=triton.next_power_of_2(tokens), experts=groups)
    tiles = count_tiles(rows=tokens, groups=groups, tile=configuration.constants["TILE_T"])
    output_tiles = triton.cdiv(outputs, configuration.constants["TILE_O"])
    shares = 1
    if groups is None:
        shares = count_shares(architecture, tiles=tiles * output_tiles, inputs=inputs)
    target, target_bias = out_TO, bias_O
    if shares > 1:
        target, target_bias = out_TO.new_empty((shares, tokens, outputs), dtype=torch.float32), None
    fp8_linear_kernel[(tiles, output_tiles, shares)](
        values_TI, scales_T, weight_XOI, weight_scales_XO, target_bias, ends_X, target,
        tokens, experts, inputs, outputs,
        values_TI.stride(0), *weight_XOI.stride()[:2], weight_scales_XO.stride(0),
        target.stride(0) if shares > 1 else 0, target.stride(-2),
        **configuration.keywords(),
    )  # fmt: skip
    if shares > 1:
        sum_shares(target, bias_O, out_TO)


@triton.jit(do_not_specialize=["tokens", "experts"])
def fp8_linear_kernel(
    x,
    x_scales,
    weight,
    weight_scales,
    bias,
    ends,
    out,
    tokens,
    experts,
    inputs,
    outputs,
    stride_x,
    stride_weight_expert,
    stride_weight,
    stride_weight_scales,
    stride_out_share,
    stride_out,
    TILE_T: tl.constexpr,
    TILE_O: tl.constexpr,
    TILE_I: tl.constexpr,
    EXPERTS: tl.constexpr,
):
    """Grid (tiles of tokens, tiles of outputs, shares of the inputs). `bias` and `ends` may be None.

    With several shares `out` is float32, [shares, tokens, outputs], and `bias` None.
    """
    expert, first, end = find_rows(tl.program_id(0), ends, experts, tokens, TILE_T, EXPERTS)
    if first >= end:
        return
    token_T = first + tl.arange(0, TILE_T)
    output_O = tl.program_id(1) * TILE_O + tl.arange(0, TILE_O)
    input_I = tl.arange(0, TILE_I)
    token_is_T, output_is_O = token_T < end, output_O < outputs
    x_IT = x + token_T.to(tl.int64)[None, :] * stride_x + input_I[:, None]
    weight_OI = (
        weight
        + expert.to(tl.int64) * stride_weight_expert
        + output_O.to(tl.int64)[:, None] * stride_weight
        + input_I[None, :]
    )
    share = tl.program_id(2)
    tiles_a_share = tl.cdiv(tl.cdiv(inputs, TILE_I), tl.num_programs(2))
    low = share * tiles_a_share * TILE_I
    sum_OT = tl.zeros([TILE_O, TILE_T], dtype=tl.float32)
    for start in range(low, tl.minimum(low + tiles_a_share * TILE_I, inputs), TILE_I):
        input_is_I = input_I < inputs - start
        w_OI = tl.load(weight_OI + start, mask=output_is_O[:, None] & input_is_I[None, :], other=0.0)
        x_tile_IT = tl.load(x_IT + start, mask=token_is_T[None, :] & input_is_I[:, None], other=0.0)
        sum_OT += tl.dot(w_OI, x_tile_IT)
    scale_O = weight_scales + expert.to(tl.int64) * stride_weight_scales + output_O
    sum_OT *= tl.load(scale_O, mask=output_is_O, other=0.0)[:, None]
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
        require_fp8(weight_OI.device)
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


class GroupedFp8Linear:
    """The products of several such weights of one shape, each with its own rows: `grouped_fp8_linear`."""

    capturable = True
    """Nothing is asked of the device."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        """As `Fp8Linear`; weights are taken one by one."""
        import torch

        values: list[Tensor] = []
        scales: list[Tensor] = []
        for weight_OI in weights:
            require_fp8(weight_OI.device)
            values_OI, scales_O = quantise_rows_fp8(weight_OI)
            values.append(values_OI.view(torch.uint8))
            scales.append(scales_O)
        self._weight_XOI = torch.stack(values).view(torch.float8_e4m3fn)
        self._scales_XO = torch.stack(scales)

    def __call__(self, x_TI: Tensor, ends_X: Tensor) -> Tensor:
        out_TO = x_TI.new_empty((x_TI.shape[0], self._weight_XOI.shape[1]))
        grouped_fp8_linear(*quantise_rows_fp8(x_TI), self._weight_XOI, self._scales_XO, ends_X, out_TO)
        return out_TO


def variants(architecture: Architecture) -> Iterator[Variant]:
    """Rows of weights and activations everywhere that fp8 is; products of few tokens and of many; experts."""
    if not has_fp8(architecture):
        return
    yield from row_variants()
    for dtype, tokens, options in (
        ("fp32", 1, {}),
        ("fp32", 32, {}),
        ("bf16", 64, {}),
        ("bf16", 4096, {}),
        ("fp16", 4096, {"bias": "*fp16"}),
        ("bf16", 16, {"ends": "*i32"}),
        ("bf16", 4096, {"ends": "*i32"}),
    ):
        experts = 8 if "ends" in options else None
        configuration = launch_fp8(architecture, tokens=tokens, experts=experts)
        yield Variant(
            name="-".join(
                ["fp8", dtype, f"t{configuration.constants['TILE_T']}", *(["ends"] if experts else [])]
            ),
            kernel=fp8_linear_kernel,
            types={
                **dict.fromkeys(("x", "weight"), "*fp8e4nv"),
                **dict.fromkeys(("x_scales", "weight_scales"), "*fp32"),
                **dict.fromkeys(("bias", "ends")),
                "out": f"*{dtype}",
                **dict.fromkeys(("tokens", "experts"), "i32"),
                **options,
            },
            launch=configuration,
            aligned=frozenset({"inputs", "outputs"}),
        )
