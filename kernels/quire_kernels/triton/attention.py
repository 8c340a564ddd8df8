"""PagedAttention on a GPU: which kernel runs, with what launch configuration."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from quire_kernels.triton import launch
from quire_kernels.triton.attention_launch import (
    MAX_GROUP,
    MAX_HEAD_DIM,
    attention_shares,
    is_decode,
    launch_attention,
)
from quire_kernels.triton.attention_split import attention_split_kernel
from quire_kernels.triton.attention_unified import attention_unified_kernel
from quire_kernels.triton.attention_variants import variants as variants
from quire_kernels.triton.checks import check_attention
from quire_kernels.triton.codes import as_codes
from quire_kernels.triton.merge import merge_rows

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AttentionPlan:
    """What of a step decides its launches: host integers only, so that a CUDA graph can be captured with it.

    A captured launch stays right for any step with as many tokens and sequences, and no sequence with more
    than `max_query_len` queries. `max_seq_len` decides only how many programs share a sequence's keys.
    """

    sequences: int
    max_query_len: int
    max_seq_len: int
    heads: int
    kv_heads: int
    block_size: int
    window: int | None

    def check_made_for(self, **call: int | None) -> None:
        """Raises ValueError where a call has other values than the plan."""
        for name, value in call.items():
            if getattr(self, name) != value:
                raise ValueError(f"plan was made for {name} {getattr(self, name)}, but this call has {value}")


def plan_attention(
    query_starts_S1: Tensor,
    seq_lens_S: Tensor,
    *,
    heads: int,
    kv_heads: int,
    block_size: int,
    window: int | None = None,
) -> AttentionPlan:
    """The plan of one step. Pass tensors that lie on the CPU: reading any other waits for the GPU."""
    if kv_heads < 1 or heads % kv_heads:
        raise ValueError(f"heads {heads} is not a multiple of kv_heads {kv_heads}")
    if heads // kv_heads > MAX_GROUP:
        raise ValueError(f"heads / kv_heads is {heads // kv_heads}; supported: up to {MAX_GROUP}")
    if window is not None and window < 1:
        raise ValueError(f"window {window} is not positive; allowed: None or at least 1")
    starts = query_starts_S1.tolist()
    return AttentionPlan(
        sequences=len(starts) - 1,
        max_query_len=max((stop - start for start, stop in pairwise(starts)), default=0),
        max_seq_len=max(seq_lens_S.tolist(), default=0),
        heads=heads,
        kv_heads=kv_heads,
        block_size=block_size,
        window=window,
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
    plan: AttentionPlan | None = None,
) -> None:
    """Causal attention of every sequence's last tokens over its cached tokens; see `quire_kernels`.

    Without a plan the lengths are read back from the GPU, which waits for it. With one, nothing waits and the
    launches can be captured in a CUDA graph.
    """
    check_attention(
        q_THD,
        k_cache,
        v_cache,
        tables_SM,
        query_starts_S1,
        seq_lens_S,
        out_THD,
        max_head_dim=MAX_HEAD_DIM,
        softcap=softcap,
        alibi_slopes_H=alibi_slopes_H,
        sinks_H=sinks_H,
        lse_TH=lse_TH,
        k_scales_NKB=k_scales_NKB,
        v_scales_NKB=v_scales_NKB,
    )
    tokens, heads, head_dim = q_THD.shape
    _, kv_heads, block_size, _ = k_cache.shape
    geometry = {"heads": heads, "kv_heads": kv_heads, "block_size": block_size, "window": window}
    if plan is None:
        plan = plan_attention(query_starts_S1, seq_lens_S, **geometry)
    plan.check_made_for(**geometry, sequences=seq_lens_S.shape[0])
    if tokens == 0 or plan.max_query_len == 0:
        return

    step = (q_THD, as_codes(k_cache), as_codes(v_cache), tables_SM, query_starts_S1, seq_lens_S)
    scales = (k_scales_NKB, v_scales_NKB)
    options = (scale, window, softcap, alibi_slopes_H)
    architecture = launch.architecture_of(q_THD.device)
    group = heads // kv_heads
    keywords = launch_attention(
        architecture,
        itemsize=q_THD.element_size(),
        cache_itemsize=k_cache.element_size(),
        head_dim=head_dim,
        block_size=block_size,
        group=group,
        max_query_len=plan.max_query_len,
    ).keywords()
    strides = (*q_THD.stride()[:2], *k_cache.stride()[:3], tables_SM.stride(0))
    if not is_decode(group=group, max_query_len=plan.max_query_len):
        tiles = tokens // (keywords["TILE_M"] // group) + plan.sequences
        attention_unified_kernel[(tiles, kv_heads)](
            *step, out_THD, sinks_H, lse_TH, *scales, plan.sequences, *options,
            *strides, *out_THD.stride()[:2], _row_stride(lse_TH), **keywords,
        )  # fmt: skip
        return
    shares = attention_shares(
        architecture,
        sequences=plan.sequences,
        kv_heads=kv_heads,
        max_query_len=plan.max_query_len,
        max_seq_len=plan.max_seq_len,
        window=window,
    )
    grid = (plan.sequences, kv_heads, shares)
    if shares == 1:
        attention_split_kernel[grid](
            *step, out_THD, sinks_H, lse_TH, *scales, *options,
            *strides, *out_THD.stride()[:2], 0, _row_stride(lse_TH), 1, **keywords,
        )  # fmt: skip
        return
    import torch

    partial_THCD = q_THD.new_empty((tokens, heads, shares, head_dim), dtype=torch.float32)
    partial_lse_THC = q_THD.new_empty((tokens, heads, shares), dtype=torch.float32)
    attention_split_kernel[grid](
        *step, partial_THCD, None, partial_lse_THC, *scales, *options,
        *strides, *partial_THCD.stride()[:3], *partial_lse_THC.stride()[:2], **keywords,
    )  # fmt: skip
    merge_rows(
        partial_THCD.permute(2, 0, 1, 3),
        partial_lse_THC.permute(2, 0, 1),
        out_THD,
        sinks_H=sinks_H,
        lse_TH=lse_TH,
        query_starts_S1=query_starts_S1,
    )


def _row_stride(lse_TH: Tensor | None) -> int:
    """Elements between the tokens of an optional output."""
    return 0 if lse_TH is None else lse_TH.stride(0)
