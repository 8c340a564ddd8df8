"""Page-selected attention, one sequence and one head at a time: bounds, scores of pages, what is chosen."""

import torch
from torch import Tensor

from quire_kernels.reference.precision import accumulate_dtype


def store_bounds(
    k_TKD: Tensor, least_NKD: Tensor, largest_NKD: Tensor, slots_T: Tensor, *, block_size: int
) -> None:
    """Widens the bounds of every token's page; the first slot of a page begins them anew."""
    for t, slot in enumerate(slots_T.tolist()):
        if slot < 0:
            continue
        block, offset = divmod(slot, block_size)
        for bound_NKD, widen in ((least_NKD, torch.minimum), (largest_NKD, torch.maximum)):
            bound_NKD[block] = k_TKD[t] if offset == 0 else widen(bound_NKD[block], k_TKD[t])


def page_scores(
    q_SHD: Tensor,
    least_NKD: Tensor,
    largest_NKD: Tensor,
    tables_SM: Tensor,
    seq_lens_S: Tensor,
    scores_SKP: Tensor,
    *,
    block_size: int,
    scale: float,
    softcap: float | None = None,
    alibi_slopes_H: Tensor | None = None,
) -> None:
    """The most that any head of a group can score with any key of a page."""
    wide = accumulate_dtype(q_SHD)
    scores_SKP.fill_(-torch.inf)
    for s, length in enumerate(seq_lens_S.tolist()):
        pages = -(-length // block_size)
        if pages == 0:
            continue
        blocks_P = tables_SM[s, :pages].long()
        q_KG1D = q_SHD[s].to(wide).unflatten(0, (scores_SKP.shape[1], -1))[:, :, None]
        least_K1PD, largest_K1PD = (
            bound_NKD[blocks_P].to(wide).transpose(0, 1)[:, None] for bound_NKD in (least_NKD, largest_NKD)
        )
        most_KGP = torch.maximum(q_KG1D * least_K1PD, q_KG1D * largest_K1PD).sum(dim=-1)
        if alibi_slopes_H is not None:
            tokens_L = torch.arange(length, device=q_SHD.device)
            slopes_H1 = alibi_slopes_H.to(wide)[:, None]
            bias_HL = slopes_H1 * (tokens_L - (length - 1))
            bias_HP = torch.stack([page.amax(dim=1) for page in bias_HL.split(block_size, dim=1)], dim=1)
            most_KGP = _capped(most_KGP * scale, softcap) + bias_HP.unflatten(0, most_KGP.shape[:2])
        scores_SKP[s, :, :pages] = most_KGP.amax(dim=1).to(scores_SKP.dtype)
        scores_SKP[s, :, pages - 1] = torch.inf


def attend_pages(
    q_SHD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    tables_SM: Tensor,
    seq_lens_S: Tensor,
    pages_SKJ: Tensor,
    out_SHD: Tensor,
    *,
    scale: float,
    softcap: float | None = None,
    alibi_slopes_H: Tensor | None = None,
    sinks_H: Tensor | None = None,
) -> None:
    """Attention of every sequence's last token to the tokens of its chosen pages."""
    wide = accumulate_dtype(q_SHD)
    block_size = k_cache.shape[2]
    group = q_SHD.shape[1] // k_cache.shape[1]
    for s, length in enumerate(seq_lens_S.tolist()):
        for h in range(q_SHD.shape[1]):
            chosen_J = pages_SKJ[s, h // group]
            tokens_L = torch.arange(length, device=q_SHD.device)
            tokens_L = tokens_L[torch.isin(tokens_L // block_size, chosen_J)]
            blocks_L = tables_SM[s, tokens_L // block_size].long()
            k_LD, v_LD = (
                cache[blocks_L, h // group, tokens_L % block_size].to(wide) for cache in (k_cache, v_cache)
            )
            scores_L = _capped(k_LD @ q_SHD[s, h].to(wide) * scale, softcap)
            if alibi_slopes_H is not None:
                scores_L = scores_L + alibi_slopes_H[h].to(wide) * (tokens_L - (length - 1))
            if sinks_H is not None:  # a key whose value is zero
                scores_L = torch.cat([scores_L, sinks_H[h : h + 1].to(wide)])
            out_SHD[s, h] = (scores_L.softmax(dim=0)[: len(v_LD)] @ v_LD).to(out_SHD.dtype)


def _capped(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)
