"""Attention in plain torch: keys and values are gathered from the cache, then scaled_dot_product_attention.

It needs no compiler and runs wherever torch runs; each step copies all the keys and values that it reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.interfaces.attention import (
    AttentionBackend,
    AttentionLayer,
    KVCache,
    KVCacheSpec,
    KVGeometry,
    TensorSpec,
)

if TYPE_CHECKING:
    import torch

    from quire.runtime.batch import Batch


@dataclass
class SdpaConfig:
    """It has no options."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SequencePart:
    """One sequence of the step: its query rows, its context, where the context lies in the cache.

    `mask_QC` says which of the C context tokens each of the Q query rows sees; None if every row sees all.
    """

    rows: slice
    tokens_C: torch.Tensor
    mask_QC: torch.Tensor | None


class SdpaAttention(AttentionBackend):
    """Gather and torch's scaled_dot_product_attention: no kernels to build, any device."""

    Config = SdpaConfig
    kv_dtypes = frozenset({"auto", "int8", "fp8_e4m3"})

    def __init__(self, *, config: SdpaConfig, device: str) -> None:
        del config, device

    def kv_cache_spec(self, geometry: KVGeometry) -> KVCacheSpec:
        import torch

        rows = (geometry.num_blocks, geometry.block_size, geometry.kv_heads)
        values = TensorSpec((*rows, geometry.head_dim), geometry.element_dtype)
        scales = None if geometry.kv_dtype == "auto" else TensorSpec(rows, torch.float32)
        return KVCacheSpec(k=values, v=values, k_scales=scales, v_scales=scales)

    def prepare(
        self, batch: Batch, layers: tuple[AttentionLayer, ...]
    ) -> tuple[tuple[SequencePart, ...], ...]:
        """For each KV group, the parts of the step."""
        starts = batch.host_query_starts_S1.tolist()
        lengths = batch.host_seq_lens_S.tolist()
        return tuple(
            tuple(
                self._part(batch, layer, s, slice(starts[s], starts[s + 1]), lengths[s])
                for s in range(batch.num_sequences)
            )
            for layer in layers
        )

    @staticmethod
    def _part(batch: Batch, layer: AttentionLayer, s: int, rows: slice, length: int) -> SequencePart:
        import torch

        queries = rows.stop - rows.start
        first = 0 if layer.window is None else max(0, length - queries + 1 - layer.window)
        device = batch.seq_lens_S.device
        keys_C = torch.arange(first, length, device=device)
        table = batch.tables_GSM[layer.group][s].long()
        tokens_C = table[keys_C // batch.block_size] * batch.block_size + keys_C % batch.block_size
        if queries == 1:
            return SequencePart(rows=rows, tokens_C=tokens_C, mask_QC=None)
        positions_Q1 = torch.arange(length - queries, length, device=device)[:, None]
        mask_QC = keys_C <= positions_Q1
        if layer.window is not None:
            mask_QC &= keys_C > positions_Q1 - layer.window
        return SequencePart(rows=rows, tokens_C=tokens_C, mask_QC=mask_QC)

    def forward(
        self,
        layer: AttentionLayer,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        cache: KVCache,
        batch: Batch,
        metadata: tuple[tuple[SequencePart, ...], ...],
        out_THD: torch.Tensor,
    ) -> None:
        self.store(k_TKD, v_TKD, cache, batch.slots_GT[layer.group], batch.block_size)
        for part in metadata[layer.group]:
            out_THD[part.rows] = self.attend(layer, q_THD[part.rows], part, cache, batch)

    def store(
        self, k_TKD: torch.Tensor, v_TKD: torch.Tensor, cache: KVCache, slots_T: torch.Tensor, block_size: int
    ) -> None:
        """Keep a step's keys and values."""
        del block_size
        _Rows(cache.k, cache.k_scales).store(slots_T, k_TKD)
        _Rows(cache.v, cache.v_scales).store(slots_T, v_TKD)

    def keys(self, cache: KVCache, tokens_C: torch.Tensor, block_size: int) -> torch.Tensor:
        """The keys [C, K, D] of tokens of the cache, counted over all blocks; out of 8 bits as float32."""
        del block_size
        return _Rows(cache.k, cache.k_scales).gather(tokens_C)

    def attend(
        self, layer: AttentionLayer, q_QHD: torch.Tensor, part: SequencePart, cache: KVCache, batch: Batch
    ) -> torch.Tensor:
        """The output [Q, H, D] of one sequence's rows."""
        k_KCD = self.keys(cache, part.tokens_C, batch.block_size).to(q_QHD.dtype).transpose(0, 1)
        v_CKD = _Rows(cache.v, cache.v_scales).gather(part.tokens_C)
        v_KCD = v_CKD.to(q_QHD.dtype).transpose(0, 1)
        return _attend(layer, q_QHD.transpose(0, 1), k_KCD, v_KCD, part.mask_QC).transpose(0, 1)


class _Rows:
    """Keys, or values, by slot."""

    def __init__(self, cache: torch.Tensor, scales: torch.Tensor | None) -> None:
        self._rows_NKD = cache.flatten(0, 1)
        self._scales_NK = None if scales is None else scales.flatten(0, 1)

    def store(self, slots_T: torch.Tensor, x_TKD: torch.Tensor) -> None:
        if self._scales_NK is not None:
            from quire_kernels.reference import quantise_tokens

            x_TKD, self._scales_NK[slots_T] = quantise_tokens(x_TKD, self._rows_NKD.dtype)
        self._rows_NKD[slots_T] = x_TKD

    def gather(self, slots_C: torch.Tensor) -> torch.Tensor:
        """[C, K, D]; out of 8 bits as float32."""
        rows_CKD = self._rows_NKD[slots_C]
        if self._scales_NK is None:
            return rows_CKD
        return rows_CKD.float() * self._scales_NK[slots_C, :, None]


def _attend(
    layer: AttentionLayer,
    q_HQD: torch.Tensor,
    k_KCD: torch.Tensor,
    v_KCD: torch.Tensor,
    mask_QC: torch.Tensor | None,
) -> torch.Tensor:
    import torch

    if layer.softcap is None and layer.sinks_H is None:
        return torch.nn.functional.scaled_dot_product_attention(
            q_HQD[None], k_KCD[None], v_KCD[None], attn_mask=mask_QC, scale=layer.scale, enable_gqa=True
        )[0]
    # torch's function knows neither a cap on the scores nor sinks: the same, step by step in float32.
    group = layer.heads // layer.kv_heads
    k_HCD, v_HCD = k_KCD.repeat_interleave(group, dim=0), v_KCD.repeat_interleave(group, dim=0)
    scores_HQC = (q_HQD.float() @ k_HCD.float().transpose(1, 2)) * layer.scale
    if layer.softcap is not None:
        scores_HQC = layer.softcap * torch.tanh(scores_HQC / layer.softcap)
    if mask_QC is not None:
        scores_HQC = scores_HQC.masked_fill(~mask_QC, float("-inf"))
    if layer.sinks_H is not None:
        sinks_HQ1 = layer.sinks_H.float()[:, None, None].expand(-1, q_HQD.shape[1], 1)
        scores_HQC = torch.cat([scores_HQC, sinks_HQ1], dim=-1)
    weights_HQC = scores_HQC.softmax(dim=-1)[..., : k_KCD.shape[1]]
    return (weights_HQC @ v_HCD.float()).to(q_HQD.dtype)
