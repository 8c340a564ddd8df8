"""Attention over a paged cache, one sequence at a time: the oracle of every other implementation."""

import torch
from torch import Tensor

from quire_kernels.reference.precision import accumulate_dtype


def plan_attention(
    query_starts_S1: Tensor,
    seq_lens_S: Tensor,
    *,
    heads: int,
    kv_heads: int,
    block_size: int,
    window: int | None = None,
) -> None:
    """The reference plans nothing."""


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
    plan: None = None,
) -> None:
    """Causal attention of every sequence's last tokens over its cached tokens."""
    starts = query_starts_S1.tolist()
    for s, length in enumerate(seq_lens_S.tolist()):
        rows = slice(starts[s], starts[s + 1])
        queries = starts[s + 1] - starts[s]
        if queries == 0:
            continue
        first = 0 if window is None else max(0, length - queries - window + 1)
        wide = accumulate_dtype(q_THD)
        k_LKD = _gather(k_cache, k_scales_NKB, tables_SM[s], first, length, wide)
        v_LKD = _gather(v_cache, v_scales_NKB, tables_SM[s], first, length, wide)
        positions_n = torch.arange(length - queries, length, device=q_THD.device)
        out_nHD, lse_nH = _attend(
            q_THD[rows], k_LKD, v_LKD, positions_n, first, scale, window, softcap, alibi_slopes_H, sinks_H
        )
        out_THD[rows] = out_nHD.to(out_THD.dtype)
        if lse_TH is not None:
            lse_TH[rows] = lse_nH.to(lse_TH.dtype)


def _gather(
    cache: Tensor, scales_NKB: Tensor | None, table_M: Tensor, first: int, length: int, wide: torch.dtype
) -> Tensor:
    """The tokens first:length of a sequence, [L, K, D]; reads no other block and no other slot."""
    block_size = cache.shape[2]
    tokens = torch.arange(first, length, device=cache.device)
    blocks = table_M[tokens // block_size].long()
    x_LKD = cache[blocks, :, tokens % block_size].to(wide)
    if scales_NKB is None:
        return x_LKD
    return x_LKD * scales_NKB[blocks, :, tokens % block_size].to(wide)[..., None]


def _attend(
    q_nHD: Tensor,
    k_LKD: Tensor,
    v_LKD: Tensor,
    positions_n: Tensor,
    first: int,
    scale: float,
    window: int | None,
    softcap: float | None,
    alibi_slopes_H: Tensor | None,
    sinks_H: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One sequence: the output [n, H, D] and the log-sum-exp [n, H]; key j sits at position first + j."""
    group = q_nHD.shape[1] // k_LKD.shape[1]
    k_LHD = k_LKD.repeat_interleave(group, dim=1)
    v_LHD = v_LKD.repeat_interleave(group, dim=1)
    scores_HnL = torch.einsum("nhd,lhd->hnl", q_nHD.to(k_LKD.dtype), k_LHD) * scale
    if softcap is not None:
        scores_HnL = softcap * torch.tanh(scores_HnL / softcap)
    keys_L = torch.arange(first, first + k_LKD.shape[0], device=q_nHD.device)
    if alibi_slopes_H is not None:
        ahead_nL = keys_L[None] - positions_n[:, None]
        scores_HnL = scores_HnL + alibi_slopes_H.to(scores_HnL.dtype)[:, None, None] * ahead_nL
    visible_nL = keys_L[None] <= positions_n[:, None]
    if window is not None:
        visible_nL &= keys_L[None] > positions_n[:, None] - window
    scores_HnL = scores_HnL.masked_fill(~visible_nL, float("-inf"))
    lse_Hn = torch.logsumexp(scores_HnL, dim=-1)
    if sinks_H is not None:
        lse_Hn = torch.logaddexp(lse_Hn, sinks_H[:, None].to(lse_Hn.dtype))
    weights_HnL = torch.exp(scores_HnL - lse_Hn[..., None])
    return torch.einsum("hnl,lhd->nhd", weights_HnL, v_LHD), lse_Hn.T
