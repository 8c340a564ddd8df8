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
from triton import next_power_of_2

from quire_kernels.triton.checks import (
    check_cache,
    check_dtype,
    check_elements,
    check_float,
    check_rows,
    check_shape,
)
from quire_kernels.triton.codes import as_codes, cache_types
from quire_kernels.triton.launch import ELEMENTS_PER_PROGRAM, Architecture, Launch
from quire_kernels.triton.rotate_store_kernel import rotate_store_kv_kernel
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
    k_scales_NKB: Tensor | None = None,
    v_scales_NKB: Tensor | None = None,
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
    for name, tensor in (("q_THD", q_THD), ("k_TKD", k_TKD), ("v_TKD", v_TKD)):
        check_dtype(name, tensor, q_THD.dtype)
        check_rows(name, tensor)
    check_elements(k_cache, v_cache, q_THD.dtype, k_scales_NKB=k_scales_NKB, v_scales_NKB=v_scales_NKB)
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
        as_codes(k_cache),
        as_codes(v_cache),
        k_scales_NKB,
        v_scales_NKB,
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


def variants(architecture: Architecture) -> Iterator[Variant]:
    """Llama, Qwen3, Gemma 3, and Phi's partial rotation, into caches of every kind; the same on every
    architecture.
    """
    del architecture
    for dtype, head_dim, rotated, normed, unit_offset, code in (
        ("bf16", 128, 128, False, False, None),
        ("bf16", 128, 128, True, False, None),
        ("bf16", 256, 256, True, True, None),
        ("fp16", 96, 72, False, False, None),
        ("fp32", 64, 64, True, False, None),
        ("bf16", 128, 128, False, False, "int8"),
        ("bf16", 128, 128, True, False, "e4m3"),
        ("bf16", 256, 256, True, True, "int8"),
        ("fp16", 96, 72, False, False, "e4m3"),
        ("fp16", 80, 32, False, False, "int8"),
        ("fp32", 64, 64, True, False, "e4m3"),
    ):
        norm = f"*{dtype}" if normed else None
        marks = [*(["norm"] if normed else []), *([code] if code else [])]
        yield Variant(
            name="-".join(["rotate-store", dtype, f"d{head_dim}", f"r{rotated}", *marks]),
            kernel=rotate_store_kv_kernel,
            types={
                **dict.fromkeys(("q", "k", "v"), f"*{dtype}"),
                **cache_types(dtype, code),
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
