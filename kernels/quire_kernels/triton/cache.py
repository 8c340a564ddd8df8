"""The paged cache on a GPU: K and V are both [N, K, B, D], the tokens of a head and block contiguous."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire_kernels.triton import launch
from quire_kernels.triton.checks import check_dtype, check_rows, check_shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def kv_cache_shapes(
    num_blocks: int, kv_heads: int, block_size: int, head_dim: int, dtype: torch.dtype
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the K and the V tensor of one layer's cache."""
    shape = (num_blocks, kv_heads, block_size, head_dim)
    return shape, shape


def store_kv(k_TKD: Tensor, v_TKD: Tensor, k_cache: Tensor, v_cache: Tensor, slots_T: Tensor) -> None:
    """Writes the keys and values of every token that has a slot; a negative slot is skipped."""
    import torch

    tokens = slots_T.shape[0]
    blocks, kv_heads, block_size, head_dim = k_cache.shape
    check_dtype("slots_T", slots_T, torch.int64)
    check_rows("slots_T", slots_T)
    for name, tensor in (("k_TKD", k_TKD), ("v_TKD", v_TKD)):
        check_shape(name, tensor, tokens, kv_heads, head_dim)
    for name, tensor in (("k_cache", k_cache), ("v_cache", v_cache)):
        check_shape(name, tensor, blocks, kv_heads, block_size, head_dim)
    for name, tensor in (("k_TKD", k_TKD), ("v_TKD", v_TKD), ("k_cache", k_cache), ("v_cache", v_cache)):
        check_dtype(name, tensor, k_cache.dtype)
        check_rows(name, tensor)
    if k_cache.stride() != v_cache.stride():
        raise ValueError(
            f"v_cache has strides {v_cache.stride()}; expected those of k_cache, {k_cache.stride()}"
        )
    if tokens == 0:
        return
    configuration = launch.store_kv(kv_heads=kv_heads, head_dim=head_dim)
    store_kv_kernel[(tokens, triton.cdiv(kv_heads, configuration.constants["TILE_H"]))](
        k_TKD,
        v_TKD,
        k_cache,
        v_cache,
        slots_T,
        kv_heads,
        block_size,
        *k_TKD.stride()[:2],
        *v_TKD.stride()[:2],
        *k_cache.stride()[:3],
        **configuration.keywords(),
    )


@triton.jit
def store_kv_kernel(
    k,
    v,
    k_cache,
    v_cache,
    slots,
    kv_heads,
    block_size,
    stride_k_token,
    stride_k_head,
    stride_v_token,
    stride_v_head,
    stride_block,
    stride_kv_head,
    stride_slot,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    TILE_H: tl.constexpr,
):
    """Grid (tokens, tiles of TILE_H heads)."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token)
    if slot < 0:
        return
    head_H = tl.program_id(1) * TILE_H + tl.arange(0, TILE_H)
    dim_D = tl.arange(0, PADDED_DIM)
    inside_HD = (head_H < kv_heads)[:, None] & (dim_D < HEAD_DIM)[None, :]
    k_HD = tl.load(
        k + token * stride_k_token + head_H[:, None] * stride_k_head + dim_D[None, :], mask=inside_HD
    )
    v_HD = tl.load(
        v + token * stride_v_token + head_H[:, None] * stride_v_head + dim_D[None, :], mask=inside_HD
    )
    cell = slot // block_size * stride_block + slot % block_size * stride_slot
    offset_HD = cell + head_H[:, None] * stride_kv_head + dim_D[None, :]
    tl.store(k_cache + offset_HD, k_HD, mask=inside_HD)
    tl.store(v_cache + offset_HD, v_HD, mask=inside_HD)
