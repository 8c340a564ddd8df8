"""Attention as it is defined, in float64, over one sequence in one piece: what backends are compared with.

Shapes as in `quire_kernels`: H and K heads, D dimensions, C tokens of the sequence, Q of them queries.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from quire.interfaces.attention import AttentionLayer, HeadTransform


def dense_attention(
    layer: AttentionLayer, qkv_CWD: torch.Tensor, *, first_query: int, heads: HeadTransform | None
) -> torch.Tensor:
    """The output [Q, H, D] of the queries from `first_query` on. A token has the queries of all heads, then
    keys, then values: as attention takes them or, where there are `heads`, as the projection leaves them.
    """
    import torch

    q_CHD, k_CKD, v_CKD = qkv_CWD.to("cpu", torch.float64).split(
        [layer.heads, layer.kv_heads, layer.kv_heads], dim=1
    )
    if heads is not None:
        q_CHD, k_CKD = _transformed(heads, q_CHD, k_CKD)
    if layer.latent_dim is not None:
        v_CKD = k_CKD[..., : layer.latent_dim]
    head_of_H = torch.arange(layer.heads) // (layer.heads // layer.kv_heads)
    k_CHD, v_CHD = k_CKD[:, head_of_H], v_CKD[:, head_of_H]
    scores_HQC = torch.einsum("qhd,chd->hqc", q_CHD[first_query:], k_CHD) * layer.scale
    if layer.softcap is not None:
        scores_HQC = layer.softcap * (scores_HQC / layer.softcap).tanh()
    key_C = torch.arange(len(k_CHD))
    query_Q1 = key_C[first_query:, None]
    if layer.alibi_slopes_H is not None:
        slopes_H11 = layer.alibi_slopes_H.to("cpu", torch.float64)[:, None, None]
        scores_HQC = scores_HQC + slopes_H11 * (key_C - query_Q1)
    unseen_QC = key_C > query_Q1
    if layer.window is not None:
        unseen_QC |= key_C <= query_Q1 - layer.window
    weights_HQC = scores_HQC.masked_fill(unseen_QC, -math.inf).exp()
    total_HQ1 = weights_HQC.sum(dim=-1, keepdim=True)
    if layer.sinks_H is not None:
        total_HQ1 = total_HQ1 + layer.sinks_H.to("cpu", torch.float64).exp()[:, None, None]
    return torch.einsum("hqc,chd->qhd", weights_HQC / total_HQ1, v_CHD)


def _transformed(
    heads: HeadTransform, q_CHD: torch.Tensor, k_CKD: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Norms and rotation from the sequence's start, in complex numbers."""
    import torch

    assert heads.cos_sin_PR is not None
    dims = heads.cos_sin_PR.shape[-1]
    cos_CI, sin_CI = heads.cos_sin_PR[: len(q_CHD)].to("cpu", torch.float64).chunk(2, dim=-1)
    turns_C1I = torch.complex(cos_CI, sin_CI)[:, None]
    results: list[torch.Tensor] = []
    for x, weight_D in ((q_CHD, heads.q_norm_D), (k_CKD, heads.k_norm_D)):
        if weight_D is not None:
            factor_D = weight_D.to("cpu", torch.float64) + (1 if heads.unit_offset else 0)
            x = x / (x.square().mean(-1, keepdim=True) + heads.eps).sqrt() * factor_D
        turned = torch.complex(*x[..., :dims].chunk(2, dim=-1)) * turns_C1I
        results.append(torch.cat([turned.real, turned.imag, x[..., dims:]], dim=-1))
    return results[0], results[1]
