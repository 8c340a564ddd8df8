"""What the kernels take for granted: a GPU would answer a breach with wrong numbers or a fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triton import knobs

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def check_float(name: str, tensor: Tensor) -> None:
    """The types that every kernel computes with."""
    import torch

    if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"{name} has dtype {tensor.dtype}; supported: float32, float16, bfloat16")


def check_interpreted(name: str, tensor: Tensor) -> None:
    """A type that the interpreter multiplies as well as a GPU does."""
    import torch

    if knobs.runtime.interpret and tensor.dtype == torch.bfloat16:
        raise ValueError(
            f"{name} has dtype bfloat16, which Triton's interpreter multiplies wrongly; use float16 or 32"
        )


def check_dtype(name: str, tensor: Tensor, *dtypes: torch.dtype) -> None:
    """`dtypes` are what is allowed."""
    if tensor.dtype not in dtypes:
        allowed = " or ".join(str(dtype) for dtype in dtypes)
        raise ValueError(f"{name} has dtype {tensor.dtype}; supported here: {allowed}")


def check_shape(name: str, tensor: Tensor, *shape: int) -> None:
    """`shape` is the only one allowed."""
    if tensor.shape != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {shape}")


def check_rows(name: str, tensor: Tensor) -> None:
    """Kernels take any strides, except that the last dimension must be contiguous."""
    if tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
        raise ValueError(f"{name} has strides {tensor.stride()}; the last dimension must be contiguous")


MAX_VOCABULARY = 1 << 22
"""So that the sum of a row's integer weights fits 63 bits."""


def check_sampling(logits_RV: Tensor, parameters: dict[str, tuple[Tensor, torch.dtype]]) -> None:
    """Rows of logits, and tensors that have one element of a type for each row."""
    import torch

    rows, vocab = logits_RV.shape
    if not 0 < vocab <= MAX_VOCABULARY:
        raise ValueError(f"logits_RV has rows of {vocab} tokens; supported: 1 to {MAX_VOCABULARY}")
    check_dtype("logits_RV", logits_RV, torch.float32)
    check_rows("logits_RV", logits_RV)
    for name, (tensor, dtype) in parameters.items():
        check_shape(name, tensor, rows)
        check_dtype(name, tensor, dtype)
        check_rows(name, tensor)


def check_cache(k_cache: Tensor, v_cache: Tensor, *, kv_heads: int, head_dim: int) -> None:
    """Both halves of one layer's cache, [N, K, B, D] of one type and with the same strides."""
    blocks, _, block_size, _ = k_cache.shape
    check_shape("k_cache", k_cache, blocks, kv_heads, block_size, head_dim)
    check_shape("v_cache", v_cache, blocks, kv_heads, block_size, head_dim)
    check_dtype("v_cache", v_cache, k_cache.dtype)
    if k_cache.stride() != v_cache.stride():
        raise ValueError(
            f"v_cache has strides {v_cache.stride()}; expected those of k_cache, {k_cache.stride()}"
        )


def check_elements(
    k_cache: Tensor,
    v_cache: Tensor,
    dtype: torch.dtype,
    *,
    k_scales_NKB: Tensor | None,
    v_scales_NKB: Tensor | None,
) -> None:
    """The cache has elements of type `dtype`, or of 8 bits with scales."""
    import torch

    check_dtype("k_cache", k_cache, dtype, torch.int8, torch.float8_e4m3fn)
    for name, cache in (("k_cache", k_cache), ("v_cache", v_cache)):
        check_rows(name, cache)
    for name, scales_NKB in (("k_scales_NKB", k_scales_NKB), ("v_scales_NKB", v_scales_NKB)):
        if (k_cache.dtype == dtype) != (scales_NKB is None):
            asked = "expected none" if scales_NKB is not None else "expected its scales"
            raise ValueError(f"{name} is not what a cache of {k_cache.dtype} has; {asked}")
        if scales_NKB is not None:
            check_shape(name, scales_NKB, *k_cache.shape[:3])
            check_dtype(name, scales_NKB, torch.float32)
            if not scales_NKB.is_contiguous():
                raise ValueError(f"{name} has strides {scales_NKB.stride()}; it must be contiguous")


def check_attention(
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    tables_SM: Tensor,
    query_starts_S1: Tensor,
    seq_lens_S: Tensor,
    out_THD: Tensor,
    *,
    max_head_dim: int,
    softcap: float | None,
    alibi_slopes_H: Tensor | None,
    sinks_H: Tensor | None,
    lse_TH: Tensor | None,
    k_scales_NKB: Tensor | None,
    v_scales_NKB: Tensor | None,
) -> None:
    """The arguments of `paged_attention`, but for what the plan checks."""
    tokens, heads, head_dim = q_THD.shape
    check_float("q_THD", q_THD)
    check_interpreted("q_THD", q_THD)
    if head_dim > max_head_dim:
        raise ValueError(f"head_dim {head_dim} is too large; supported: up to {max_head_dim}")
    if softcap is not None and softcap <= 0:
        raise ValueError(f"softcap {softcap} is not positive; allowed: None or more than 0")
    check_cache(k_cache, v_cache, kv_heads=k_cache.shape[1], head_dim=head_dim)
    check_elements(k_cache, v_cache, q_THD.dtype, k_scales_NKB=k_scales_NKB, v_scales_NKB=v_scales_NKB)
    check_shape("out_THD", out_THD, tokens, heads, head_dim)
    for name, tensor in (("q_THD", q_THD), ("out_THD", out_THD)):
        check_dtype(name, tensor, q_THD.dtype)
        check_rows(name, tensor)
    check_step(tables_SM, query_starts_S1, seq_lens_S)
    check_optional("alibi_slopes_H", alibi_slopes_H, heads)
    check_optional("sinks_H", sinks_H, heads)
    check_optional("lse_TH", lse_TH, tokens, heads)


def check_latent_attention(
    q_THW: Tensor,
    cache_NBW: Tensor,
    tables_SM: Tensor,
    query_starts_S1: Tensor,
    seq_lens_S: Tensor,
    out_THV: Tensor,
    *,
    max_latent_dim: int,
    max_rotary_dim: int,
    lse_TH: Tensor | None,
) -> None:
    """The arguments of `mla_decode`, but for what the plan checks."""
    tokens, heads, width = q_THW.shape
    latent_dim = out_THV.shape[-1]
    check_float("q_THW", q_THW)
    check_interpreted("q_THW", q_THW)
    if not (0 < latent_dim <= max_latent_dim and 0 < width - latent_dim <= max_rotary_dim):
        raise ValueError(
            f"q_THW has {width} columns, {latent_dim} of them of out_THV's; supported: "
            f"1 to {max_latent_dim} and 1 to {max_rotary_dim} more"
        )
    check_shape("cache_NBW", cache_NBW, *cache_NBW.shape[:2], width)
    check_shape("out_THV", out_THV, tokens, heads, latent_dim)
    for name, tensor in (("q_THW", q_THW), ("cache_NBW", cache_NBW), ("out_THV", out_THV)):
        check_dtype(name, tensor, q_THW.dtype)
        check_rows(name, tensor)
    check_step(tables_SM, query_starts_S1, seq_lens_S)
    check_optional("lse_TH", lse_TH, tokens, heads)


def check_step(tables_SM: Tensor, query_starts_S1: Tensor, seq_lens_S: Tensor) -> None:
    """What says which rows and which blocks are whose."""
    import torch

    (sequences,) = seq_lens_S.shape
    check_shape("query_starts_S1", query_starts_S1, sequences + 1)
    check_shape("tables_SM", tables_SM, sequences, tables_SM.shape[-1])
    for name, tensor in (
        ("tables_SM", tables_SM),
        ("query_starts_S1", query_starts_S1),
        ("seq_lens_S", seq_lens_S),
    ):
        check_dtype(name, tensor, torch.int32)
        check_rows(name, tensor)


def check_optional(name: str, tensor: Tensor | None, *shape: int) -> None:
    """A tensor of float32 that may be left out."""
    import torch

    if tensor is not None:
        check_shape(name, tensor, *shape)
        check_dtype(name, tensor, torch.float32)
        check_rows(name, tensor)
