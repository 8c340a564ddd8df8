"""Products of sorted rows with one weight per group, as a layer of experts needs them, in one launch.

Which rows are whose stays on the device (Gale et al., "MegaBlocks", 2023, section 5, without its sparsity
formats): the grid hangs on shapes alone, so nothing waits and a launch can be captured in a CUDA graph.

Suffixes of shapes: X groups, T rows, O outputs, I inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire_kernels.triton import launch
from quire_kernels.triton.checks import (
    check_dtype,
    check_float,
    check_interpreted,
    check_rows,
    check_shape,
)
from quire_kernels.triton.launch import Architecture, Launch
from quire_kernels.triton.products import Tile, token_tile
from quire_kernels.triton.row_groups import count_places, count_tiles, find_rows
from quire_kernels.triton.tuned import remembers_tiles, tile_for
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor

# By tokens a tile; from what the compiler reports, not from measurements.
_TILES = {
    "cuda": {
        16: Tile(64, 128, 4, 4),
        32: Tile(64, 128, 4, 4),
        64: Tile(128, 64, 4, 4),
        128: Tile(128, 64, 8, 3),
    },
    "hip": {16: Tile(64, 64, 4, 2), 32: Tile(64, 64, 4, 2), 64: Tile(128, 32, 4, 2)},
}
# NVIDIA's matrix units take no IEEE float32. Scalar products keep their operands in registers: small tiles.
_TILES_FLOAT32 = {"cuda": Tile(32, 32, 4, 3), "hip": Tile(32, 16, 4, 2)}


@remembers_tiles
def launch_grouped(architecture: Architecture, *, itemsize: int, rows: int, groups: int) -> Launch:
    """TILE_T rows by TILE_O outputs, TILE_I inputs at a time. `itemsize` is in bytes."""
    tokens = token_tile(architecture, tokens=rows, groups=groups, itemsize=itemsize)
    if itemsize == 4:
        default = _TILES_FLOAT32[architecture.backend]
    else:
        default = _TILES[architecture.backend][tokens]
    if architecture.name == "sm_86":
        default = default._replace(stages=min(default.stages, 3))
    tile = tile_for(architecture, "grouped", f"x{itemsize}-t{tokens}", default)
    return Launch(
        constants={"TILE_T": tokens, "TILE_O": tile.o, "TILE_I": tile.i, "GROUPS": count_places(groups)},
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def grouped_linear(x_TI: Tensor, weight_XOI: Tensor, ends_X: Tensor, out_TO: Tensor) -> None:
    """Rows ends[g - 1]:ends[g] of x times the g-th weight; rows from ends[-1] on are left alone."""
    import torch

    rows, inputs = x_TI.shape
    groups, outputs, _ = weight_XOI.shape
    check_float("x_TI", x_TI)
    check_interpreted("x_TI", x_TI)
    check_shape("weight_XOI", weight_XOI, groups, outputs, inputs)
    check_shape("ends_X", ends_X, groups)
    check_shape("out_TO", out_TO, rows, outputs)
    for name, tensor in (("weight_XOI", weight_XOI), ("out_TO", out_TO)):
        check_dtype(name, tensor, x_TI.dtype)
    check_dtype("ends_X", ends_X, torch.int32)
    for name, tensor in (("x_TI", x_TI), ("weight_XOI", weight_XOI), ("ends_X", ends_X), ("out_TO", out_TO)):
        check_rows(name, tensor)
    if rows == 0:
        return
    configuration = launch_grouped(
        launch.architecture_of(x_TI.device), itemsize=x_TI.element_size(), rows=_bucket(rows), groups=groups
    )
    tiles = count_tiles(rows=rows, groups=groups, tile=configuration.constants["TILE_T"])
    grouped_linear_kernel[(tiles, triton.cdiv(outputs, configuration.constants["TILE_O"]))](
        x_TI,
        weight_XOI,
        ends_X,
        out_TO,
        rows,
        groups,
        inputs,
        outputs,
        x_TI.stride(0),
        *weight_XOI.stride()[:2],
        out_TO.stride(0),
        **configuration.keywords(),
    )


def _bucket(rows: int) -> int:
    """Numbers of rows that share a launch: one a power of two, so that few are remembered."""
    return triton.next_power_of_2(rows)


@triton.jit(do_not_specialize=["rows", "groups"])
def grouped_linear_kernel(
    x,
    weight,
    ends,
    out,
    rows,
    groups,
    inputs,
    outputs,
    stride_x,
    stride_weight_group,
    stride_weight,
    stride_out,
    TILE_T: tl.constexpr,
    TILE_O: tl.constexpr,
    TILE_I: tl.constexpr,
    GROUPS: tl.constexpr,
):
    """Grid (tiles of rows, tiles of outputs)."""
    group, first, end = find_rows(tl.program_id(0), ends, groups, rows, TILE_T, GROUPS)
    if first >= end:
        return
    row_T = first + tl.arange(0, TILE_T)
    output_O = tl.program_id(1) * TILE_O + tl.arange(0, TILE_O)
    input_I = tl.arange(0, TILE_I)
    row_is_T, output_is_O = row_T < end, output_O < outputs
    x_IT = x + row_T.to(tl.int64)[None, :] * stride_x + input_I[:, None]
    weight_OI = (
        weight
        + group.to(tl.int64) * stride_weight_group
        + output_O.to(tl.int64)[:, None] * stride_weight
        + input_I[None, :]
    )
    sum_OT = tl.zeros([TILE_O, TILE_T], dtype=tl.float32)
    for start in range(0, inputs, TILE_I):
        input_is_I = input_I < inputs - start
        w_OI = tl.load(weight_OI + start, mask=output_is_O[:, None] & input_is_I[None, :], other=0.0)
        x_tile_IT = tl.load(x_IT + start, mask=row_is_T[None, :] & input_is_I[:, None], other=0.0)
        sum_OT = tl.dot(w_OI, x_tile_IT, sum_OT, input_precision="ieee")
    out_TO = out + row_T.to(tl.int64)[:, None] * stride_out + output_O[None, :]
    tl.store(
        out_TO,
        tl.trans(sum_OT).to(out.dtype.element_ty),
        mask=row_is_T[:, None] & output_is_O[None, :],
    )


def variants(architecture: Architecture) -> Iterator[Variant]:
    """One row or many for each of eight experts, few for each of very many."""
    # Where tiles are small, two of these numbers of rows may have the same.
    yield from {variant.name: variant for variant in _listed(architecture)}.values()


def _listed(architecture: Architecture) -> Iterator[Variant]:
    for dtype, itemsize, rows, groups in (
        ("bf16", 2, 8, 8),
        ("bf16", 2, 256, 8),
        ("bf16", 2, 512, 8),
        ("bf16", 2, 8192, 8),
        ("bf16", 2, 512, 256),
        ("fp16", 2, 8, 8),
        ("fp32", 4, 8, 8),
        ("fp32", 4, 8192, 8),
    ):
        configuration = launch_grouped(architecture, itemsize=itemsize, rows=rows, groups=groups)
        many = "" if groups == 8 else f"-g{groups}"
        yield Variant(
            name=f"grouped-{dtype}-t{configuration.constants['TILE_T']}{many}",
            kernel=grouped_linear_kernel,
            types={
                **dict.fromkeys(("x", "weight", "out"), f"*{dtype}"),
                "ends": "*i32",
                **dict.fromkeys(("rows", "groups"), "i32"),
            },
            launch=configuration,
            aligned=frozenset({"inputs", "outputs"}),
        )
