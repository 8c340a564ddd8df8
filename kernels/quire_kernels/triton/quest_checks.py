"""What the kernels of page-selected attention take for granted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire_kernels.triton.attention_launch import MAX_GROUP, MAX_HEAD_DIM
from quire_kernels.triton.checks import (
    check_dtype,
    check_float,
    check_interpreted,
    check_optional,
    check_rows,
    check_shape,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def check_bounds(
    least_NKD: Tensor, largest_NKD: Tensor, like: Tensor, *, kv_heads: int, head_dim: int
) -> None:
    """Both bounds of one layer's pages, of the type of `like`."""
    for name, bound in (("least_NKD", least_NKD), ("largest_NKD", largest_NKD)):
        check_shape(name, bound, least_NKD.shape[0], kv_heads, head_dim)
        check_dtype(name, bound, like.dtype)
        check_rows(name, bound)
    if least_NKD.stride() != largest_NKD.stride():
        raise ValueError(
            f"largest_NKD has strides {largest_NKD.stride()}; expected those of least_NKD, "
            f"{least_NKD.stride()}"
        )
    if head_dim > MAX_HEAD_DIM:
        raise ValueError(f"head_dim {head_dim} is too large; supported: up to {MAX_HEAD_DIM}")


def check_decode_rows(
    q_SHD: Tensor,
    tables_SM: Tensor,
    seq_lens_S: Tensor,
    kv_heads: int,
    softcap: float | None,
    alibi_slopes_H: Tensor | None,
) -> int:
    """What both launches read; returns how many query heads share keys."""
    import torch

    sequences, heads, head_dim = q_SHD.shape
    check_float("q_SHD", q_SHD)
    check_interpreted("q_SHD", q_SHD)
    check_rows("q_SHD", q_SHD)
    if head_dim > MAX_HEAD_DIM:
        raise ValueError(f"head_dim {head_dim} is too large; supported: up to {MAX_HEAD_DIM}")
    if heads % kv_heads or heads // kv_heads > MAX_GROUP:
        raise ValueError(
            f"q_SHD has {heads} heads over {kv_heads} of keys; supported: a multiple, up to {MAX_GROUP} times"
        )
    if softcap is not None and softcap <= 0:
        raise ValueError(f"softcap {softcap} is not positive; allowed: None or more than 0")
    check_shape("tables_SM", tables_SM, sequences, tables_SM.shape[-1])
    check_shape("seq_lens_S", seq_lens_S, sequences)
    for name, tensor in (("tables_SM", tables_SM), ("seq_lens_S", seq_lens_S)):
        check_dtype(name, tensor, torch.int32)
        check_rows(name, tensor)
    check_optional("alibi_slopes_H", alibi_slopes_H, heads)
    return heads // kv_heads


def check_choice(name: str, tensor: Tensor, dtype: torch.dtype, *shape: int, columns: int) -> None:
    """Numbers of a type for each sequence, head of keys and page, of which tables have so many columns."""
    check_shape(name, tensor, *shape, tensor.shape[-1])
    check_dtype(name, tensor, dtype)
    if tensor.shape[-1] > columns:
        raise ValueError(f"{name} has {tensor.shape[-1]} pages a row; tables_SM has {columns} columns")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} has strides {tensor.stride()}; it must be contiguous")
