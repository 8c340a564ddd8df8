"""Paged attention in C++."""

import torch
from torch import Tensor

from quire_kernels.cpu.build import load_kernels


def plan_attention(
    query_starts_S1: Tensor,
    seq_lens_S: Tensor,
    *,
    heads: int,
    kv_heads: int,
    block_size: int,
    window: int | None = None,
) -> Tensor:
    """The step's list of work, int32 [items, 9], the most expensive item first.

    Long sequences with few query rows are split along their keys, by lengths alone. Where that leaves enough
    items for torch's number of threads, an item takes several heads. What comes out is the same bits.
    """
    load_kernels()
    return torch.ops.quire_cpu.plan_attention(
        query_starts_S1, seq_lens_S, heads, kv_heads, block_size, window
    )


def paged_attention(
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    tables_SM: Tensor,
    query_starts_S1: Tensor,
    seq_lens_S: Tensor,
    out_THD: Tensor,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    alibi_slopes_H: Tensor | None = None,
    sinks_H: Tensor | None = None,
    lse_TH: Tensor | None = None,
    k_scales_NKB: Tensor | None = None,
    v_scales_NKB: Tensor | None = None,
    plan: Tensor | None = None,
) -> None:
    """Causal attention of every sequence's last tokens over its cached tokens.

    A row's result is the same bits for any number of threads, any batch and any chunking of its prefill.

    Raises:
        ValueError: an argument's type, shape or value is not one that the kernel takes.
    """
    load_kernels()
    torch.ops.quire_cpu.paged_attention(
        q_THD,
        k_cache,
        v_cache,
        tables_SM,
        query_starts_S1,
        seq_lens_S,
        out_THD,
        scale,
        window,
        softcap,
        alibi_slopes_H,
        sinks_H,
        lse_TH,
        k_scales_NKB,
        v_scales_NKB,
        plan,
    )
