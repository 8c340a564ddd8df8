"""Multi-head latent attention over a paged cache of latents, one sequence at a time."""

import torch
from torch import Tensor

from quire_kernels.reference.precision import accumulate_dtype


def mla_decode(
    q_THW: Tensor,
    cache_NBW: Tensor,
    tables_SM: Tensor,
    query_starts_S1: Tensor,
    seq_lens_S: Tensor,
    out_THV: Tensor,
    *,
    scale: float,
    lse_TH: Tensor | None = None,
    plan: None = None,
) -> None:
    """Causal attention of every sequence's last tokens over its latents; their first V columns are values."""
    wide = accumulate_dtype(q_THW)
    starts = query_starts_S1.tolist()
    for s, length in enumerate(seq_lens_S.tolist()):
        queries = starts[s + 1] - starts[s]
        if queries == 0:
            continue
        rows = slice(starts[s], starts[s + 1])
        tokens_L = torch.arange(length, device=q_THW.device)
        blocks_L = tables_SM[s, tokens_L // cache_NBW.shape[1]].long()
        latents_LW = cache_NBW[blocks_L, tokens_L % cache_NBW.shape[1]].to(wide)
        scores_nHL = torch.einsum("nhw,lw->nhl", q_THW[rows].to(wide), latents_LW) * scale
        hidden_nL = tokens_L[None] > tokens_L[length - queries :, None]
        scores_nHL = scores_nHL.masked_fill(hidden_nL[:, None], float("-inf"))
        lse_nH = torch.logsumexp(scores_nHL, dim=-1)
        weights_nHL = torch.exp(scores_nHL - lse_nH[..., None])
        values_LV = latents_LW[:, : out_THV.shape[-1]]
        out_THV[rows] = torch.einsum("nhl,lv->nhv", weights_nHL, values_LV).to(out_THV.dtype)
        if lse_TH is not None:
            lse_TH[rows] = lse_nH.to(lse_TH.dtype)


def latent_cache_shape(
    num_blocks: int, block_size: int, latent_dim: int, rotary_dim: int, dtype: torch.dtype
) -> tuple[int, ...]:
    """Shape of one layer's cache of latents."""
    del dtype
    return num_blocks, block_size, latent_dim + rotary_dim


def store_latents(rows_TW: Tensor, cache_NBW: Tensor, slots_T: Tensor) -> None:
    """Writes the row of every token with a slot that is not negative."""
    block_size = cache_NBW.shape[1]
    for t, slot in enumerate(slots_T.tolist()):
        if slot >= 0:
            cache_NBW[slot // block_size, slot % block_size] = rows_TW[t]
