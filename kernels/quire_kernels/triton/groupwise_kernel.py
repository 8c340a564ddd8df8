"""The kernel of `groupwise`, and its launches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import triton
import triton.language as tl

from quire_kernels.triton.launch import Architecture, Launch
from quire_kernels.triton.products import token_tile
from quire_kernels.triton.row_groups import count_places, find_rows
from quire_kernels.triton.tuned import remembers_tiles, tile_for
from quire_kernels.triton.variants import Variant


class GroupwiseTile(NamedTuple):
    """Rows of the weight, warps and pipeline stages."""

    o: int
    warps: int
    stages: int


@remembers_tiles
def launch_groupwise(
    architecture: Architecture, *, itemsize: int, bits: int, group: int, tokens: int, experts: int | None
) -> Launch:
    """TILE_T tokens by TILE_O outputs, a group of inputs at a time. `itemsize`, of x, is in bytes."""
    places = count_places(experts)
    tokens = token_tile(architecture, tokens=tokens, groups=experts, itemsize=itemsize)
    many = tokens == (32 if itemsize == 4 else 128)
    shallow = architecture.backend == "hip" or itemsize == 4
    tile = tile_for(
        architecture,
        "groupwise",
        f"w{bits}-x{itemsize}-g{group}-t{tokens}",
        # From what the compiler reports, not from measurements.
        GroupwiseTile(
            o=32 if itemsize == 4 else 64,
            warps=8 if many else 4,
            stages=2 if shallow else 4 if tokens <= 32 else 3,
        ),
    )
    return Launch(
        constants={"BITS": bits, "GROUP": group, "TILE_T": tokens, "TILE_O": tile.o, "EXPERTS": places},
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


@triton.jit
def _centred(values, zero_O1, DTYPE: tl.constexpr, BITS: tl.constexpr):
    """value - zero in DTYPE, exact. Where a float's low bits can hold the value, they are it: 1024 + value in
    float16 and 128 + value in bfloat16 have the bits of 1024 and of 128, or'ed with those of the value."""
    if tl.float16 == DTYPE:
        lifted = (values.to(tl.int16) | 0x6400).to(tl.float16, bitcast=True)
        return lifted - (zero_O1 + 1024.0).to(tl.float16)
    elif tl.bfloat16 == DTYPE and BITS == 4:
        lifted = (values.to(tl.int16) | 0x4300).to(tl.bfloat16, bitcast=True)
        return lifted - (zero_O1 + 128.0).to(tl.bfloat16)
    else:
        return (values.to(tl.float32) - zero_O1).to(DTYPE)


@triton.jit(do_not_specialize=["rows", "experts"])
def groupwise_kernel(
    x,
    values,
    scales,
    zeros,
    bias,
    ends,
    out,
    rows,
    experts,
    inputs,
    outputs,
    groups,
    stride_x,
    stride_out_share,
    stride_out,
    BITS: tl.constexpr,
    GROUP: tl.constexpr,
    TILE_T: tl.constexpr,
    TILE_O: tl.constexpr,
    EXPERTS: tl.constexpr,
):
    """Grid (tiles of rows, tiles of outputs, shares of the groups). `zeros`, `bias` and `ends` may be None.

    With several shares `out` is float32, [shares, rows, outputs], and `bias` None.
    """
    expert, first, end = find_rows(tl.program_id(0), ends, experts, rows, TILE_T, EXPERTS)
    if first >= end:
        return
    BYTES: tl.constexpr = GROUP * BITS // 8
    DTYPE: tl.constexpr = x.dtype.element_ty
    row_T = first + tl.arange(0, TILE_T)
    output_O = tl.program_id(1) * TILE_O + tl.arange(0, TILE_O)
    byte_B = tl.arange(0, BYTES)
    row_is_T, output_is_O = row_T < end, output_O < outputs
    x_BT = x + row_T.to(tl.int64)[None, :] * stride_x + byte_B[:, None]
    # Row (expert, group, output) of scales and zeros, and of the values' pieces of BYTES.
    base = expert.to(tl.int64) * groups * outputs
    share = tl.program_id(2)
    groups_a_share = tl.cdiv(groups, tl.num_programs(2))
    sum_OT = tl.zeros([TILE_O, TILE_T], dtype=tl.float32)
    for group in range(share * groups_a_share, tl.minimum((share + 1) * groups_a_share, groups)):
        row_O = base + group * outputs + output_O
        byte_OB = tl.load(
            values + row_O[:, None] * BYTES + byte_B[None, :], mask=output_is_O[:, None], other=0
        )
        scale_O = tl.load(scales + row_O, mask=output_is_O, other=0.0)
        if zeros is None:
            zero_O1 = tl.full([TILE_O, 1], 1 << (BITS - 1), tl.float32)
        else:
            zero_O1 = tl.load(zeros + row_O, mask=output_is_O, other=0.0)[:, None]
        start = group * GROUP
        inside_BT = row_is_T[None, :] & (byte_B < inputs - start)[:, None]
        x_first_BT = tl.load(x_BT + start, mask=inside_BT, other=0.0)
        if BITS == 8:
            dot_OT = tl.dot(_centred(byte_OB, zero_O1, DTYPE, BITS), x_first_BT, input_precision="ieee")
        else:
            inside_BT = row_is_T[None, :] & (byte_B < inputs - start - BYTES)[:, None]
            x_second_BT = tl.load(x_BT + start + BYTES, mask=inside_BT, other=0.0)
            dot_OT = tl.dot(_centred(byte_OB & 15, zero_O1, DTYPE, BITS), x_first_BT, input_precision="ieee")
            dot_OT = tl.dot(
                _centred(byte_OB >> 4, zero_O1, DTYPE, BITS), x_second_BT, dot_OT, input_precision="ieee"
            )
        sum_OT += dot_OT * scale_O[:, None]
    if bias is not None:
        sum_OT += tl.load(bias + output_O, mask=output_is_O, other=0.0).to(tl.float32)[:, None]
    out_TO = out + share.to(tl.int64) * stride_out_share + row_T.to(tl.int64)[:, None] * stride_out
    tl.store(
        out_TO + output_O[None, :],
        tl.trans(sum_OT).to(out.dtype.element_ty),
        mask=row_is_T[:, None] & output_is_O[None, :],
    )


def variants(architecture: Architecture) -> Iterator[Variant]:
    """Few tokens, whose shares are summed, and many; experts; all widths of groups."""
    # Where tiles are small, two of these numbers of tokens may have the same.
    yield from {variant.name: variant for variant in _listed(architecture)}.values()


def _listed(architecture: Architecture) -> Iterator[Variant]:
    for dtype, bits, group, tokens, options in (
        ("bf16", 4, 64, 1, {"zeros": "*fp32"}),
        ("bf16", 4, 128, 32, {}),
        ("bf16", 4, 64, 64, {"zeros": "*fp32"}),
        ("bf16", 4, 64, 4096, {"zeros": "*fp32"}),
        ("bf16", 4, 32, 4096, {"zeros": "*fp32"}),
        ("bf16", 8, 128, 1, {}),
        ("bf16", 8, 128, 4096, {"bias": "*bf16"}),
        ("fp16", 4, 128, 4096, {"zeros": "*fp32", "bias": "*fp16"}),
        ("fp32", 4, 64, 1, {"zeros": "*fp32"}),
        ("fp32", 8, 128, 4096, {"zeros": "*fp32"}),
        ("bf16", 4, 64, 16, {"zeros": "*fp32", "ends": "*i32"}),
        ("bf16", 4, 64, 4096, {"zeros": "*fp32", "ends": "*i32"}),
    ):
        experts = 8 if "ends" in options else None
        launch = launch_groupwise(
            architecture,
            itemsize=4 if dtype == "fp32" else 2,
            bits=bits,
            group=group,
            tokens=tokens,
            experts=experts,
        )
        shared = experts is None and tokens <= 32
        yield Variant(
            name="-".join(
                ["groupwise", f"w{bits}", dtype, f"g{group}", f"t{launch.constants['TILE_T']}", *options]
            ),
            kernel=groupwise_kernel,
            types={
                "x": f"*{dtype}",
                "values": "*u8",
                "scales": "*fp32",
                **dict.fromkeys(("zeros", "bias", "ends")),
                "out": "*fp32" if shared else f"*{dtype}",
                **dict.fromkeys(("rows", "experts", "groups"), "i32"),
                **options,
            },
            launch=launch,
            aligned=frozenset({"inputs", "outputs"}),
        )
