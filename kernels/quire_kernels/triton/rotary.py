"""Rotary position embedding (Su et al., "RoFormer", 2021), of q and k in place and in one launch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import triton
import triton.language as tl
from triton import next_power_of_2

from quire_kernels.triton.checks import check_dtype, check_float, check_rows, check_shape
from quire_kernels.triton.launch import ELEMENTS_PER_PROGRAM, Architecture, Launch
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor


def rotary(
    q_THD: Tensor, k_TKD: Tensor, positions_T: Tensor, cos_sin_PR: Tensor, *, interleaved: bool = False
) -> None:
    """Rotates the first R dimensions of every head, paired (i, i + R/2), or (2i, 2i + 1) if interleaved."""
    import torch

    tokens, heads, head_dim = q_THD.shape
    kv_heads = k_TKD.shape[1]
    rotated = cos_sin_PR.shape[-1]
    if rotated % 2 or rotated > head_dim:
        raise ValueError(
            f"cos_sin_PR rotates {rotated} dimensions; allowed: an even number up to head_dim {head_dim}"
        )
    check_float("q_THD", q_THD)
    check_shape("k_TKD", k_TKD, tokens, kv_heads, head_dim)
    check_shape("positions_T", positions_T, tokens)
    check_dtype("k_TKD", k_TKD, q_THD.dtype)
    check_dtype("positions_T", positions_T, torch.int64)
    check_dtype("cos_sin_PR", cos_sin_PR, torch.float32)
    for name, tensor in (
        ("q_THD", q_THD),
        ("k_TKD", k_TKD),
        ("positions_T", positions_T),
        ("cos_sin_PR", cos_sin_PR),
    ):
        check_rows(name, tensor)
    if tokens == 0:
        return
    configuration = launch_rotary(rotated=rotated, heads=heads, interleaved=interleaved)
    tile = configuration.constants["TILE_H"]
    rotary_kernel[(tokens, triton.cdiv(heads, tile) + triton.cdiv(kv_heads, tile))](
        q_THD,
        k_TKD,
        positions_T,
        cos_sin_PR,
        heads,
        kv_heads,
        *q_THD.stride()[:2],
        *k_TKD.stride()[:2],
        cos_sin_PR.stride(0),
        **configuration.keywords(),
    )


def launch_rotary(*, rotated: int, heads: int, interleaved: bool) -> Launch:
    """TILE_H heads of one token a program."""
    padded_pairs = next_power_of_2(rotated // 2)
    tile_h = max(1, min(next_power_of_2(heads), ELEMENTS_PER_PROGRAM // padded_pairs))
    return Launch(
        constants={
            "PAIRS": rotated // 2,
            "PADDED_PAIRS": padded_pairs,
            "TILE_H": tile_h,
            "INTERLEAVED": interleaved,
        },
        num_warps=4,
    )


@triton.jit
def rotary_kernel(
    q,
    k,
    positions,
    cos_sin,
    heads,
    kv_heads,
    stride_q_token,
    stride_q_head,
    stride_k_token,
    stride_k_head,
    stride_cos_sin,
    INTERLEAVED: tl.constexpr,
    PAIRS: tl.constexpr,
    PADDED_PAIRS: tl.constexpr,
    TILE_H: tl.constexpr,
):
    """Grid (tokens, tiles of query heads followed by tiles of key heads)."""
    token = tl.program_id(0).to(tl.int64)
    tile = tl.program_id(1)
    query_tiles = tl.cdiv(heads, TILE_H)
    if tile < query_tiles:
        _rotate(
            q + token * stride_q_token, stride_q_head, tile * TILE_H, heads, positions + token, cos_sin,
            stride_cos_sin, INTERLEAVED, PAIRS, PADDED_PAIRS, TILE_H,
        )  # fmt: skip
    else:
        _rotate(
            k + token * stride_k_token, stride_k_head, (tile - query_tiles) * TILE_H, kv_heads,
            positions + token, cos_sin, stride_cos_sin, INTERLEAVED, PAIRS, PADDED_PAIRS, TILE_H,
        )  # fmt: skip


@triton.jit
def _rotate(
    row,
    stride_head,
    first_head,
    heads,
    position,
    cos_sin,
    stride_cos_sin,
    INTERLEAVED: tl.constexpr,
    PAIRS: tl.constexpr,
    PADDED_PAIRS: tl.constexpr,
    TILE_H: tl.constexpr,
):
    pair_I = tl.arange(0, PADDED_PAIRS)
    angles = cos_sin + tl.load(position) * stride_cos_sin
    cos_I = tl.load(angles + pair_I, mask=pair_I < PAIRS)
    sin_I = tl.load(angles + PAIRS + pair_I, mask=pair_I < PAIRS)
    head_H = first_head + tl.arange(0, TILE_H)
    inside_HI = (head_H < heads)[:, None] & (pair_I < PAIRS)[None, :]
    if INTERLEAVED:
        a_HI = row + head_H[:, None] * stride_head + 2 * pair_I[None, :]
        b_HI = a_HI + 1
    else:
        a_HI = row + head_H[:, None] * stride_head + pair_I[None, :]
        b_HI = a_HI + PAIRS
    x_HI = tl.load(a_HI, mask=inside_HI).to(tl.float32)
    y_HI = tl.load(b_HI, mask=inside_HI).to(tl.float32)
    tl.store(a_HI, (x_HI * cos_I - y_HI * sin_I).to(row.dtype.element_ty), mask=inside_HI)
    tl.store(b_HI, (y_HI * cos_I + x_HI * sin_I).to(row.dtype.element_ty), mask=inside_HI)


def variants(architecture: Architecture) -> Iterator[Variant]:
    """The same on every architecture."""
    del architecture
    for dtype, rotated, interleaved in (("bf16", 128, False), ("fp32", 64, True)):
        yield Variant(
            name=f"rotary-{dtype}-r{rotated}",
            kernel=rotary_kernel,
            types={
                **dict.fromkeys(("q", "k"), f"*{dtype}"),
                "positions": "*i64",
                "cos_sin": "*fp32",
                "heads": "i32",
                "kv_heads": "i32",
            },
            launch=launch_rotary(rotated=rotated, heads=32, interleaved=interleaved),
        )
