"""What lies between the QKV product and attention, in one launch: norms of the heads (Dehghani et al.,
"Scaling Vision Transformers to 22 Billion Parameters", ICML 2023, section 2), rotary embedding (Su et al.,
"RoFormer", 2021) and the store to the paged cache.

One after another these read and write q and k three times, for a few kilobytes a token: at the batch sizes of
decoding the launches cost more than the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import triton
import triton.language as tl
from triton import next_power_of_2

from quire_kernels.triton.checks import check_cache, check_dtype, check_float, check_rows, check_shape
from quire_kernels.triton.launch import ELEMENTS_PER_PROGRAM, Architecture, Launch
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor


def rotate_store_kv(
    q_THD: Tensor,
    k_TKD: Tensor,
    v_TKD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slots_T: Tensor,
    positions_T: Tensor,
    cos_sin_PR: Tensor,
    *,
    q_norm_D: Tensor | None = None,
    k_norm_D: Tensor | None = None,
    eps: float = 1e-6,
    unit_offset: bool = False,
    interleaved: bool = False,
) -> None:
    """q is normed and rotated in place, k on its way to the cache; k itself stays. See `quire_kernels`."""
    import torch

    tokens, heads, head_dim = q_THD.shape
    kv_heads = k_TKD.shape[1]
    rotated = cos_sin_PR.shape[-1]
    if rotated % 2 or rotated > head_dim:
        raise ValueError(
            f"cos_sin_PR rotates {rotated} dimensions; allowed: an even number up to head_dim {head_dim}"
        )
    if (q_norm_D is None) != (k_norm_D is None):
        raise ValueError("only one of q_norm_D and k_norm_D is given; allowed: both or none")
    check_float("q_THD", q_THD)
    check_shape("k_TKD", k_TKD, tokens, kv_heads, head_dim)
    check_shape("v_TKD", v_TKD, tokens, kv_heads, head_dim)
    check_cache(k_cache, v_cache, kv_heads=kv_heads, head_dim=head_dim)
    tensors = {"q_THD": q_THD, "k_TKD": k_TKD, "v_TKD": v_TKD, "k_cache": k_cache, "v_cache": v_cache}
    for name, tensor in tensors.items():
        check_dtype(name, tensor, q_THD.dtype)
        check_rows(name, tensor)
    for name, weight_D in (("q_norm_D", q_norm_D), ("k_norm_D", k_norm_D)):
        if weight_D is not None:
            check_shape(name, weight_D, head_dim)
            check_dtype(name, weight_D, q_THD.dtype)
            check_rows(name, weight_D)
    for name, integers_T in (("slots_T", slots_T), ("positions_T", positions_T)):
        check_shape(name, integers_T, tokens)
        check_dtype(name, integers_T, torch.int64)
        check_rows(name, integers_T)
    check_dtype("cos_sin_PR", cos_sin_PR, torch.float32)
    check_rows("cos_sin_PR", cos_sin_PR)
    if tokens == 0:
        return
    configuration = launch_rotate_store_kv(
        head_dim=head_dim, rotated=rotated, heads=heads, unit_offset=unit_offset, interleaved=interleaved
    )
    tile = configuration.constants["TILE_H"]
    rotate_store_kv_kernel[(tokens, triton.cdiv(heads, tile) + 2 * triton.cdiv(kv_heads, tile))](
        q_THD,
        k_TKD,
        v_TKD,
        k_cache,
        v_cache,
        slots_T,
        positions_T,
        cos_sin_PR,
        q_norm_D,
        k_norm_D,
        heads,
        kv_heads,
        k_cache.shape[2],
        eps,
        *q_THD.stride()[:2],
        *k_TKD.stride()[:2],
        *v_TKD.stride()[:2],
        *k_cache.stride()[:3],
        cos_sin_PR.stride(0),
        **configuration.keywords(),
    )


def launch_rotate_store_kv(
    *, head_dim: int, rotated: int, heads: int, unit_offset: bool, interleaved: bool
) -> Launch:
    """TILE_H heads of one token a program: of queries, keys or values."""
    tile_h = max(1, min(next_power_of_2(heads), ELEMENTS_PER_PROGRAM // next_power_of_2(head_dim)))
    return Launch(
        constants={
            "UNIT_OFFSET": unit_offset,
            "INTERLEAVED": interleaved,
            "HEAD_DIM": head_dim,
            "PADDED_DIM": next_power_of_2(head_dim),
            "PAIRS": rotated // 2,
            "PADDED_PAIRS": next_power_of_2(rotated // 2),
            "PADDED_REST": next_power_of_2(max(1, head_dim - rotated)),
            "TILE_H": tile_h,
        },
        num_warps=4,
    )


@triton.jit
def rotate_store_kv_kernel(
    q,
    k,
    v,
    k_cache,
    v_cache,
    slots,
    positions,
    cos_sin,
    q_norm,
    k_norm,
    heads,
    kv_heads,
    block_size,
    eps,
    stride_q_token,
    stride_q_head,
    stride_k_token,
    stride_k_head,
    stride_v_token,
    stride_v_head,
    stride_block,
    stride_kv_head,
    stride_slot,
    stride_cos_sin,
    UNIT_OFFSET: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    PAIRS: tl.constexpr,
    PADDED_PAIRS: tl.constexpr,
    PADDED_REST: tl.constexpr,
    TILE_H: tl.constexpr,
):
    """Grid (tokens, tiles of query heads, then of key heads, then of value heads). Norms may be None."""
    token = tl.program_id(0).to(tl.int64)
    tile = tl.program_id(1)
    query_tiles = tl.cdiv(heads, TILE_H)
    key_tiles = tl.cdiv(kv_heads, TILE_H)
    if tile < query_tiles:
        row = q + token * stride_q_token
        _turn(
            row, stride_q_head, row, stride_q_head, tile * TILE_H, heads, q_norm, eps, positions + token,
            cos_sin, stride_cos_sin, UNIT_OFFSET, INTERLEAVED, HEAD_DIM, PAIRS, PADDED_PAIRS, PADDED_REST,
            TILE_H,
        )  # fmt: skip
        return
    slot = tl.load(slots + token)
    if slot < 0:
        return
    cell = slot // block_size * stride_block + slot % block_size * stride_slot
    if tile < query_tiles + key_tiles:
        _turn(
            k + token * stride_k_token, stride_k_head, k_cache + cell, stride_kv_head,
            (tile - query_tiles) * TILE_H, kv_heads, k_norm, eps, positions + token, cos_sin, stride_cos_sin,
            UNIT_OFFSET, INTERLEAVED, HEAD_DIM, PAIRS, PADDED_PAIRS, PADDED_REST, TILE_H,
        )  # fmt: skip
    else:
        head_H = (tile - query_tiles - key_tiles) * TILE_H + tl.arange(0, TILE_H)
        dim_D = tl.arange(0, PADDED_DIM)
        inside_HD = (head_H < kv_heads)[:, None] & (dim_D < HEAD_DIM)[None, :]
        v_HD = v + token * stride_v_token + head_H[:, None] * stride_v_head + dim_D[None, :]
        place_HD = v_cache + cell + head_H[:, None] * stride_kv_head + dim_D[None, :]
        tl.store(place_HD, tl.load(v_HD, mask=inside_HD), mask=inside_HD)


@triton.jit
def _turn(
    source,
    stride_source,
    target,
    stride_target,
    first_head,
    heads,
    norm,
    eps,
    position,
    cos_sin,
    stride_cos_sin,
    UNIT_OFFSET: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAIRS: tl.constexpr,
    PADDED_PAIRS: tl.constexpr,
    PADDED_REST: tl.constexpr,
    TILE_H: tl.constexpr,
):
    """Heads of one token from `source` to `target`, rounded where the separate operations round.

    A head is held in three parts: the first and the second of each pair, and the dimensions that no rotation
    touches.
    """
    pair_I = tl.arange(0, PADDED_PAIRS)
    if INTERLEAVED:
        a_I = 2 * pair_I
        b_I = a_I + 1
    else:
        a_I = pair_I
        b_I = pair_I + PAIRS
    head_H = first_head + tl.arange(0, TILE_H)
    inside_HI = (head_H < heads)[:, None] & (pair_I < PAIRS)[None, :]
    row_H = source + head_H * stride_source
    a_HI = tl.load(row_H[:, None] + a_I[None, :], mask=inside_HI, other=0.0).to(tl.float32)
    b_HI = tl.load(row_H[:, None] + b_I[None, :], mask=inside_HI, other=0.0).to(tl.float32)
    if 2 * PAIRS < HEAD_DIM:
        rest_J = 2 * PAIRS + tl.arange(0, PADDED_REST)
        inside_HJ = (head_H < heads)[:, None] & (rest_J < HEAD_DIM)[None, :]
        rest_HJ = tl.load(row_H[:, None] + rest_J[None, :], mask=inside_HJ, other=0.0).to(tl.float32)
    if norm is not None:
        squares_H = tl.sum(a_HI * a_HI, 1) + tl.sum(b_HI * b_HI, 1)
        if 2 * PAIRS < HEAD_DIM:
            squares_H += tl.sum(rest_HJ * rest_HJ, 1)
        scale_H = tl.rsqrt(squares_H / HEAD_DIM + eps)
        a_HI = _scale(a_HI, scale_H, norm, a_I, pair_I < PAIRS, UNIT_OFFSET)
        b_HI = _scale(b_HI, scale_H, norm, b_I, pair_I < PAIRS, UNIT_OFFSET)
        if 2 * PAIRS < HEAD_DIM:
            rest_HJ = _scale(rest_HJ, scale_H, norm, rest_J, rest_J < HEAD_DIM, UNIT_OFFSET)

    angles = cos_sin + tl.load(position) * stride_cos_sin
    cos_I = tl.load(angles + pair_I, mask=pair_I < PAIRS)
    sin_I = tl.load(angles + PAIRS + pair_I, mask=pair_I < PAIRS)
    place_H = target + head_H * stride_target
    new_a_HI = (a_HI * cos_I - b_HI * sin_I).to(target.dtype.element_ty)
    new_b_HI = (b_HI * cos_I + a_HI * sin_I).to(target.dtype.element_ty)
    tl.store(place_H[:, None] + a_I[None, :], new_a_HI, mask=inside_HI)
    tl.store(place_H[:, None] + b_I[None, :], new_b_HI, mask=inside_HI)
    if 2 * PAIRS < HEAD_DIM:
        tl.store(place_H[:, None] + rest_J[None, :], rest_HJ.to(target.dtype.element_ty), mask=inside_HJ)


@triton.jit
def _scale(x_HI, scale_H, norm, dim_I, inside_I, UNIT_OFFSET: tl.constexpr):
    weight_I = tl.load(norm + dim_I, mask=inside_I, other=0.0).to(tl.float32)
    if UNIT_OFFSET:
        weight_I += 1.0
    return (x_HI * scale_H[:, None] * weight_I[None, :]).to(norm.dtype.element_ty).to(tl.float32)


def variants(architecture: Architecture) -> Iterator[Variant]:
    """Llama, Qwen3, Gemma 3, and Phi's partial rotation; the same on every architecture."""
    del architecture
    for dtype, head_dim, rotated, normed, unit_offset in (
        ("bf16", 128, 128, False, False),
        ("bf16", 128, 128, True, False),
        ("bf16", 256, 256, True, True),
        ("fp16", 96, 72, False, False),
        ("fp32", 64, 64, True, False),
    ):
        norm = f"*{dtype}" if normed else None
        yield Variant(
            name=f"rotate-store-{dtype}-d{head_dim}-r{rotated}{'-norm' if normed else ''}",
            kernel=rotate_store_kv_kernel,
            types={
                **dict.fromkeys(("q", "k", "v", "k_cache", "v_cache"), f"*{dtype}"),
                **dict.fromkeys(("slots", "positions"), "*i64"),
                "cos_sin": "*fp32",
                **dict.fromkeys(("q_norm", "k_norm"), norm),
                **dict.fromkeys(("heads", "kv_heads", "block_size"), "i32"),
                "eps": "fp32",
            },
            launch=launch_rotate_store_kv(
                head_dim=head_dim, rotated=rotated, heads=32, unit_offset=unit_offset, interleaved=False
            ),
            unaligned=frozenset({"stride_cos_sin"} if rotated % 16 else ()),
        )
