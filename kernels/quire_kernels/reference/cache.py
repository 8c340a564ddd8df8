"""The cache of the reference: K and V are both [N, K, B, D]."""

import torch
from torch import Tensor


def kv_cache_shapes(
    num_blocks: int, kv_heads: int, block_size: int, head_dim: int, dtype: torch.dtype
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the K and the V tensor of one layer's cache."""
    shape = (num_blocks, kv_heads, block_size, head_dim)
    return shape, shape


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
    block_size = k_cache.shape[2]
    for x_TKD, cache, scales_NKB in ((k_TKD, k_cache, k_scales_NKB), (v_TKD, v_cache, v_scales_NKB)):
        scales_TK = None
        if scales_NKB is not None:
            x_TKD, scales_TK = quantise_tokens(x_TKD, cache.dtype)
        for t, slot in enumerate(slots_T.tolist()):
            if slot < 0:
                continue
            cache[slot // block_size, :, slot % block_size] = x_TKD[t]
            if scales_NKB is not None and scales_TK is not None:
                scales_NKB[slot // block_size, :, slot % block_size] = scales_TK[t]


def quantise_tokens(x_TKD: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Values [T, K, D] of type int8 or float8_e4m3fn and float32 scales [T, K]: x is about values * scales.

    The largest of a token and head becomes the largest that the type holds, 127 or 448; the others are
    rounded to nearest, ties to even. Where x has an infinity or a NaN the scale is NaN.
    """
    most = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}[dtype]
    x_TKD = x_TKD.float()
    largest_TK = x_TKD.abs().amax(dim=-1)
    scales_TK = largest_TK / torch.full_like(largest_TK, most)
    scales_TK = torch.where(scales_TK.isfinite(), scales_TK, torch.nan)
    divided_TKD = (x_TKD / scales_TK[..., None]).nan_to_num(0.0).clamp(-most, most)
    return (divided_TKD.round() if dtype == torch.int8 else divided_TKD).to(dtype), scales_TK
