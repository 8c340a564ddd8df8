"""The cache of the C++ kernels, packed for dot products of bfloat16 pairs."""

import torch
from torch import Tensor

from quire_kernels.cpu.build import load_kernels


def kv_cache_shapes(
    num_blocks: int, kv_heads: int, block_size: int, head_dim: int, dtype: torch.dtype
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the K and the V tensor of one layer's cache.

    A block of one head is K [D, B] and V [B, D], so that both products of attention read along the last
    dimension; in bfloat16, pairs of the dimension that is summed over lie together.
    """
    if block_size <= 0 or block_size % 16:
        raise ValueError(f"block_size is {block_size}; the CPU kernels need a multiple of 16")
    if head_dim <= 0 or head_dim % 16:
        raise ValueError(f"head_dim is {head_dim}; the CPU kernels need a multiple of 16")
    if dtype == torch.float32:
        return (num_blocks, kv_heads, head_dim, block_size), (num_blocks, kv_heads, block_size, head_dim)
    if dtype == torch.bfloat16:
        return (
            (num_blocks, kv_heads, head_dim // 2, block_size, 2),
            (num_blocks, kv_heads, block_size // 2, head_dim, 2),
        )
    raise ValueError(f"dtype is {dtype}; the CPU kernels take float32 and bfloat16: convert to bfloat16")


def store_kv(
    k_TKD: Tensor,
    v_TKD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slots_T: Tensor,
    *,
    k_scales_NKB: Tensor | None = None,
    v_scales_NKB: Tensor | None = None,
) -> None:
    """Writes every token with a slot that is not negative."""
    load_kernels()
    torch.ops.quire_cpu.store_kv(k_TKD, v_TKD, k_cache, v_cache, slots_T, k_scales_NKB, v_scales_NKB)
