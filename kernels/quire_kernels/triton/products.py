"""How matrix products are launched, and the sum of what several programs computed of one.

y = x W^T is computed as W x^T, tile by tile: a weight's rows fill the matrix units however few tokens there
are. With few tokens the time is that of reading W, and one program a tile of its rows leaves most of the GPU
idle. The inner dimension is then shared out, and the shares' sums in float32 are added in the order of the
shares, so that equal calls give equal bits (split-K; Osama et al., "Stream-K", 2023, section 3).

Suffixes of shapes: T tokens, O outputs, I inputs, C shares.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import triton
import triton.language as tl

from quire_kernels.triton.launch import ELEMENTS_PER_PROGRAM, Architecture, Launch
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor

_PROGRAMS_PER_PROCESSOR = 3
_MIN_SHARE_INPUTS = 512  # with fewer, adding up costs more than the parallelism gains
_TILES_T = (16, 32, 64, 128)


class Tile(NamedTuple):
    """Rows of the weight, inputs, warps and pipeline stages."""

    o: int
    i: int
    warps: int
    stages: int


def token_tile(architecture: Architecture, *, tokens: int, groups: int | None, itemsize: int) -> int:
    """Tokens a tile: the fewest that hold a group's share of them, up to what registers hold."""
    each = tokens if groups is None else -(-tokens // groups)
    most = 32 if itemsize == 4 else 64 if architecture.name == "gfx942" else 128
    return next((tile for tile in _TILES_T if tile >= each and tile <= most), most)


def count_shares(architecture: Architecture, *, tiles: int, inputs: int) -> int:
    """How many programs share the inner dimension of a tile: to fill the GPU, none with too little to do."""
    to_fill = _PROGRAMS_PER_PROCESSOR * architecture.processors // max(tiles, 1)
    return max(1, min(to_fill, inputs // _MIN_SHARE_INPUTS, 16))


@cache
def launch_sum_shares() -> Launch:
    """TILE_O outputs of one token a program."""
    return Launch(constants={"TILE_O": ELEMENTS_PER_PROGRAM}, num_warps=4)


def sum_shares(partial_CTO: Tensor, bias_O: Tensor | None, out_TO: Tensor) -> None:
    """out = the sum over C in its order, plus the bias, in float32 and rounded once."""
    shares, tokens, outputs = partial_CTO.shape
    launch = launch_sum_shares()
    sum_shares_kernel[(tokens, triton.cdiv(outputs, launch.constants["TILE_O"]))](
        partial_CTO,
        bias_O,
        out_TO,
        shares,
        outputs,
        partial_CTO.stride(0),
        out_TO.stride(0),
        **launch.keywords(),
    )


@triton.jit(do_not_specialize=["shares"])
def sum_shares_kernel(
    partial, bias, out, shares, outputs, stride_partial_share, stride_out, TILE_O: tl.constexpr
):
    """Grid (tokens, tiles of TILE_O outputs). `bias` may be None."""
    token = tl.program_id(0).to(tl.int64)
    output_O = tl.program_id(1) * TILE_O + tl.arange(0, TILE_O)
    inside_O = output_O < outputs
    sum_O = tl.zeros([TILE_O], dtype=tl.float32)
    row = partial + token * outputs
    for _ in range(shares):
        sum_O += tl.load(row + output_O, mask=inside_O, other=0.0)
        row += stride_partial_share
    if bias is not None:
        sum_O += tl.load(bias + output_O, mask=inside_O, other=0.0).to(tl.float32)
    tl.store(out + token * stride_out + output_O, sum_O.to(out.dtype.element_ty), mask=inside_O)


def variants(architecture: Architecture) -> Iterator[Variant]:
    """The same on every architecture."""
    del architecture
    for dtype, bias in (("bf16", None), ("fp32", "*fp32")):
        yield Variant(
            name=f"sum-shares-{dtype}",
            kernel=sum_shares_kernel,
            types={
                "partial": "*fp32",
                "bias": bias,
                "out": f"*{dtype}",
                "shares": "i32",
            },
            launch=launch_sum_shares(),
            aligned=frozenset({"outputs"}),
        )
