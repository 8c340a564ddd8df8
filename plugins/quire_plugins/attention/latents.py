"""Multi-head latent attention in plain torch, on any device (DeepSeek-AI, "DeepSeek-V2", 2024, section 2.1).

The rows of a sequence are gathered block by block, and all its heads meet them in one product: a head is one
more query of the same keys. Scores and sums are float32. Shapes as in `quire_kernels`; R query rows (tokens x
heads), C rows of the sequence's cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.interfaces.kv_cache import KVGeometry, LatentCacheSpec, TensorSpec

if TYPE_CHECKING:
    import torch

    from quire.runtime.batch import Batch

_SCORES = 1 << 21
"""Held at a time, 8 MiB of them: a prompt's would be its length squared, times heads."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LatentPart:
    """One sequence of the step: its query rows, its blocks, its tokens in the cache."""

    rows: slice
    blocks_M: torch.Tensor
    length: int


def latent_parts(batch: Batch, group: int) -> tuple[LatentPart, ...]:
    """The step's sequences, which all layers of the KV group share."""
    starts = batch.host_query_starts_S1.tolist()
    tables_SM = batch.tables_GSM[group].long()
    return tuple(
        LatentPart(
            rows=slice(starts[s], starts[s + 1]),
            blocks_M=tables_SM[s, : -(-length // batch.block_size)],
            length=length,
        )
        for s, length in enumerate(batch.host_seq_lens_S.tolist())
    )


def latent_cache_spec(geometry: KVGeometry) -> LatentCacheSpec:
    """Rows one after another, [N, B, W]."""
    shape = (geometry.num_blocks, geometry.block_size, geometry.head_dim)
    return LatentCacheSpec(rows=TensorSpec(shape, geometry.dtype))


def store_rows(rows_TW: torch.Tensor, cache_NBW: torch.Tensor, slots_T: torch.Tensor) -> None:
    """Every token has a slot."""
    cache_NBW.flatten(0, 1)[slots_T] = rows_TW


def attend_rows(
    q_THW: torch.Tensor,
    cache_NBW: torch.Tensor,
    parts: Iterable[LatentPart],
    out_THV: torch.Tensor,
    *,
    scale: float,
) -> None:
    """Causal attention of every sequence's last tokens to its rows, whose first V columns are the values."""
    for part in parts:
        rows_CW = cache_NBW.index_select(0, part.blocks_M).flatten(0, 1)[: part.length].float()
        _attend(q_THW[part.rows], rows_CW, out_THV[part.rows], scale=scale)


def _attend(q_QHW: torch.Tensor, rows_CW: torch.Tensor, out_QHV: torch.Tensor, *, scale: float) -> None:
    import torch

    queries, heads, _ = q_QHW.shape
    context, latent_dim = rows_CW.shape[0], out_QHV.shape[2]
    some = max(1, _SCORES // (heads * context))
    for first in range(0, queries, some):
        last = min(first + some, queries)
        count, seen = last - first, context - queries + last
        q_RW = q_QHW[first:last].flatten(0, 1).float()
        scores_RC = (q_RW @ rows_CW[:seen].T).mul_(scale)
        if count > 1:  # of the last `count` rows each token sees those up to its own
            later_qc = torch.ones(count, count, dtype=torch.bool, device=q_RW.device).triu_(1)
            scores_RC.view(count, heads, seen)[..., seen - count :].masked_fill_(
                later_qc[:, None], float("-inf")
            )
        weights_RC = scores_RC.softmax(dim=-1)
        out_QHV[first:last] = (weights_RC @ rows_CW[:seen, :latent_dim]).unflatten(0, (count, heads))
