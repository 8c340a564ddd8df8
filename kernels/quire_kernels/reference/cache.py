"""The cache of the reference: K and V are both [N, K, B, D]."""

import torch
from torch import Tensor


def kv_cache_shapes(
    num_blocks: int, kv_heads: int, block_size: int, head_dim: int, dtype: torch.dtype
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the K and the V tensor of one layer's cache."""
    shape = (num_blocks, kv_heads, block_size, head_dim)
    return shape, shape


def store_kv(k_TKD: Tensor, v_TKD: Tensor, k_cache: Tensor, v_cache: Tensor, slots_T: Tensor) -> None:
    """Writes every token with a slot that is not negative."""
    block_size = k_cache.shape[2]
    for t, slot in enumerate(slots_T.tolist()):
        if slot >= 0:
            k_cache[slot // block_size, :, slot % block_size] = k_TKD[t]
            v_cache[slot // block_size, :, slot % block_size] = v_TKD[t]
