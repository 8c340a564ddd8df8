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
    sinks_H: Tensor | None,
    lse_TH: Tensor | None,
) -> None:
    """The arguments of `paged_attention`, but for what the plan checks."""
    import torch

    tokens, heads, head_dim = q_THD.shape
    blocks, kv_heads, block_size, _ = k_cache.shape
    sequences = seq_lens_S.shape[0]
    check_float("q_THD", q_THD)
    if knobs.runtime.interpret and q_THD.dtype == torch.bfloat16:
        raise ValueError(
            "q_THD has dtype bfloat16, which Triton's interpreter multiplies wrongly; use float16 or 32"
        )
    if head_dim > max_head_dim:
        raise ValueError(f"head_dim {head_dim} is too large; supported: up to {max_head_dim}")
    if softcap is not None and softcap <= 0:
        raise ValueError(f"softcap {softcap} is not positive; allowed: None or more than 0")
    check_shape("k_cache", k_cache, blocks, kv_heads, block_size, head_dim)
    check_shape("v_cache", v_cache, blocks, kv_heads, block_size, head_dim)
    check_shape("out_THD", out_THD, tokens, heads, head_dim)
    check_shape("query_starts_S1", query_starts_S1, sequences + 1)
    check_shape("tables_SM", tables_SM, sequences, tables_SM.shape[-1])
    for name, tensor in (("q_THD", q_THD), ("k_cache", k_cache), ("v_cache", v_cache), ("out_THD", out_THD)):
        check_dtype(name, tensor, q_THD.dtype)
        check_rows(name, tensor)
    if k_cache.stride() != v_cache.stride():
        raise ValueError(
            f"v_cache has strides {v_cache.stride()}; expected those of k_cache, {k_cache.stride()}"
        )
    for name, tensor in (
        ("tables_SM", tables_SM),
        ("query_starts_S1", query_starts_S1),
        ("seq_lens_S", seq_lens_S),
    ):
        check_dtype(name, tensor, torch.int32)
        check_rows(name, tensor)
    for name, tensor, shape in (("sinks_H", sinks_H, (heads,)), ("lse_TH", lse_TH, (tokens, heads))):
        if tensor is not None:
            check_shape(name, tensor, *shape)
            check_dtype(name, tensor, torch.float32)
            check_rows(name, tensor)
