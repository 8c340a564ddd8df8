"""The paged cache on a GPU: K and V are both [N, K, B, D], the tokens of a head and block contiguous."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import triton
import triton.language as tl
from triton import next_power_of_2

from quire_kernels.triton.attention_launch import MAX_HEAD_DIM
from quire_kernels.triton.checks import check_cache, check_dtype, check_elements, check_rows, check_shape
from quire_kernels.triton.codes import as_codes, cache_types, encode
from quire_kernels.triton.launch import ELEMENTS_PER_PROGRAM, Architecture, Launch
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def kv_cache_shapes(
    num_blocks: int, kv_heads: int, block_size: int, head_dim: int, dtype: torch.dtype
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the K and the V tensor of one layer's cache."""
    import torch

    if head_dim > MAX_HEAD_DIM:
        raise ValueError(f"head_dim is {head_dim}; the Triton kernels take up to {MAX_HEAD_DIM}")
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"dtype is {dtype}; the Triton kernels take float32, float16 and bfloat16")
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
    """Writes the keys and values of every token that has a slot; a negative slot is skipped."""
    import torch

    tokens = slots_T.shape[0]
    _, kv_heads, block_size, head_dim = k_cache.shape
    check_dtype("slots_T", slots_T, torch.int64)
    check_rows("slots_T", slots_T)
    check_cache(k_cache, v_cache, kv_heads=kv_heads, head_dim=head_dim)
    for name, tensor in (("k_TKD", k_TKD), ("v_TKD", v_TKD)):
        check_shape(name, tensor, tokens, kv_heads, head_dim)
        check_dtype(name, tensor, k_TKD.dtype)
        check_rows(name, tensor)
    check_elements(k_cache, v_cache, k_TKD.dtype, k_scales_NKB=k_scales_NKB, v_scales_NKB=v_scales_NKB)
    if tokens == 0:
        return
    configuration = launch_store_kv(kv_heads=kv_heads, head_dim=head_dim)
    store_kv_kernel[(tokens, triton.cdiv(kv_heads, configuration.constants["TILE_H"]))](
        k_TKD,
        v_TKD,
        as_codes(k_cache),
        as_codes(v_cache),
        k_scales_NKB,
        v_scales_NKB,
        slots_T,
        kv_heads,
        block_size,
        *k_TKD.stride()[:2],
        *v_TKD.stride()[:2],
        *k_cache.stride()[:3],
        **configuration.keywords(),
    )


def launch_store_kv(*, kv_heads: int, head_dim: int) -> Launch:
    """TILE_H heads of one token a program."""
    padded_dim = next_power_of_2(head_dim)
    tile_h = max(1, min(next_power_of_2(kv_heads), ELEMENTS_PER_PROGRAM // padded_dim))
    return Launch(constants={"HEAD_DIM": head_dim, "PADDED_DIM": padded_dim, "TILE_H": tile_h}, num_warps=4)


@triton.jit
def store_kv_kernel(
    k,
    v,
    k_cache,
    v_cache,
    k_scales,
    v_scales,
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
    """Grid (tokens, tiles of TILE_H heads). The scales are None unless the cache holds 8 bits."""
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
    if k_scales is not None:
        k_HD, k_scale_H = encode(tl.where(inside_HD, k_HD, 0.0), k_cache.dtype.element_ty)
        v_HD, v_scale_H = encode(tl.where(inside_HD, v_HD, 0.0), v_cache.dtype.element_ty)
        offset_H = (slot // block_size * kv_heads + head_H) * block_size + slot % block_size
        tl.store(k_scales + offset_H, k_scale_H, mask=head_H < kv_heads)
        tl.store(v_scales + offset_H, v_scale_H, mask=head_H < kv_heads)
    tl.store(k_cache + offset_HD, k_HD, mask=inside_HD)
    tl.store(v_cache + offset_HD, v_HD, mask=inside_HD)


def variants(architecture: Architecture) -> Iterator[Variant]:
    """The same on every architecture."""
    del architecture
    for dtype, head_dim, code in (
        ("bf16", 128, None),
        ("fp32", 80, None),
        ("bf16", 128, "int8"),
        ("bf16", 128, "e4m3"),
        ("bf16", 256, "int8"),
        ("fp16", 64, "e4m3"),
        ("fp16", 96, "int8"),
        ("fp32", 80, "e4m3"),
    ):
        yield Variant(
            name="-".join(["store", dtype, f"d{head_dim}", *([code] if code else [])]),
            kernel=store_kv_kernel,
            types={
                **dict.fromkeys(("k", "v"), f"*{dtype}"),
                **cache_types(dtype, code),
                "slots": "*i64",
                "kv_heads": "i32",
                "block_size": "i32",
            },
            launch=launch_store_kv(kv_heads=8, head_dim=head_dim),
        )
