"""Attention with an online softmax (Milakov and Gimelshein, 2018): the context is read chunk by chunk, and
what is accumulated is scaled down whenever a larger score turns up.

T tokens, H query heads, K key-value heads, G = H / K query heads of each, D dimensions; Q rows of a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces import AttentionBackend, AttentionLayer, KVCache, KVCacheSpec, KVGeometry, TensorSpec

if TYPE_CHECKING:
    import torch

    from quire.runtime.batch import Batch

_LOWEST = -1e30
"""Below any score, and finite: the difference of two of them is 0."""


@dataclass
class NewPluginConfig:
    """Options of `attention=new_plugin`."""

    chunk_tokens: int = 256
    """Tokens of context gathered at once: the memory that a step needs grows with it."""

    def __post_init__(self) -> None:
        if self.chunk_tokens < 1:
            raise UserError(f"attention.chunk_tokens={self.chunk_tokens}: must be at least 1")


class NewPlugin(AttentionBackend):
    """Plain torch, one sequence after another, a chunk of context at a time."""

    Config = NewPluginConfig
    supports_sinks = False
    supports_softcap = False

    def __init__(self, *, config: NewPluginConfig, device: str) -> None:
        del device
        self._chunk_tokens = config.chunk_tokens

    def kv_cache_spec(self, geometry: KVGeometry) -> KVCacheSpec:
        rows = (geometry.num_blocks, geometry.block_size, geometry.kv_heads)
        spec = TensorSpec((*rows, geometry.head_dim), geometry.dtype)
        return KVCacheSpec(k=spec, v=spec)

    def prepare(self, batch: Batch, layers: tuple[AttentionLayer, ...]) -> None:
        """Nothing is shared between the layers of a step."""

    def forward(
        self,
        layer: AttentionLayer,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        cache: KVCache,
        batch: Batch,
        metadata: None,
        out_THD: torch.Tensor,
    ) -> None:
        cache.k.flatten(0, 1)[batch.slots_GT[layer.group]] = k_TKD
        cache.v.flatten(0, 1)[batch.slots_GT[layer.group]] = v_TKD
        starts = batch.host_query_starts_S1.tolist()
        for s, length in enumerate(batch.host_seq_lens_S.tolist()):
            rows = slice(starts[s], starts[s + 1])
            out_THD[rows] = self._attend(layer, q_THD[rows], cache, batch, s, length)

    def _attend(
        self, layer: AttentionLayer, q_QHD: torch.Tensor, cache: KVCache, batch: Batch, s: int, length: int
    ) -> torch.Tensor:
        """The rows of sequence `s`, which has `length` tokens in the cache."""
        import torch

        queries, device = q_QHD.shape[0], q_QHD.device
        first = 0 if layer.window is None else max(0, length - queries + 1 - layer.window)
        q_KGQD = q_QHD.float().unflatten(1, (layer.kv_heads, -1)).permute(1, 2, 0, 3)
        positions_Q1 = torch.arange(length - queries, length, device=device)[:, None]
        highest_KGQ1 = torch.full((*q_KGQD.shape[:3], 1), _LOWEST, device=device)
        total_KGQ1 = torch.zeros_like(highest_KGQ1)
        out_KGQD = torch.zeros_like(q_KGQD)
        for start in range(first, length, self._chunk_tokens):
            context_C = torch.arange(start, min(start + self._chunk_tokens, length), device=device)
            blocks_C = batch.tables_GSM[layer.group][s, context_C // batch.block_size].long()
            k_CKD, v_CKD = (
                part[blocks_C, context_C % batch.block_size].float() for part in (cache.k, cache.v)
            )
            seen_QC = context_C <= positions_Q1
            if layer.window is not None:
                seen_QC &= context_C > positions_Q1 - layer.window
            scores_KGQC = torch.einsum("kgqd,ckd->kgqc", q_KGQD, k_CKD) * layer.scale
            scores_KGQC.masked_fill_(~seen_QC, float("-inf"))
            before_KGQ1 = highest_KGQ1
            highest_KGQ1 = torch.maximum(before_KGQ1, scores_KGQC.amax(dim=-1, keepdim=True))
            weights_KGQC = (scores_KGQC - highest_KGQ1).exp_()
            shrink_KGQ1 = (before_KGQ1 - highest_KGQ1).exp_()
            total_KGQ1 = total_KGQ1 * shrink_KGQ1 + weights_KGQC.sum(dim=-1, keepdim=True)
            out_KGQD = out_KGQD * shrink_KGQ1 + torch.einsum("kgqc,ckd->kgqd", weights_KGQC, v_CKD)
        return (out_KGQD / total_KGQ1).permute(2, 0, 1, 3).flatten(1, 2).to(q_QHD.dtype)
