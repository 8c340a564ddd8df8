"""Attention in plain torch: keys and values are gathered from the cache, then scaled_dot_product_attention.

It needs no compiler and runs wherever torch runs; each step copies all the keys and values that it reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.interfaces.attention import AttentionBackend, AttentionLayer
from quire.interfaces.kv_cache import (
    KVCache,
    KVCacheSpec,
    KVGeometry,
    LatentCache,
    LatentCacheSpec,
    TensorSpec,
)
from quire_plugins.attention.latents import (
    LatentPart,
    attend_rows,
    latent_cache_spec,
    latent_parts,
    store_rows,
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
    `ahead_QC` is how far each lies ahead of a row, there if a layer has slopes for it.
    """

    rows: slice
    tokens_C: torch.Tensor
    mask_QC: torch.Tensor | None
    ahead_QC: torch.Tensor | None


class SdpaAttention(AttentionBackend):
    """Gather and torch's scaled_dot_product_attention: no kernels to build, any device."""

    Config = SdpaConfig
    kv_dtypes = frozenset({"auto", "int8", "fp8_e4m3"})
    supports_alibi = True
    supports_latents = True

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
    ) -> tuple[tuple[SequencePart, ...] | tuple[LatentPart, ...], ...]:
        """For each KV group, the parts of the step."""
        starts = batch.host_query_starts_S1.tolist()
        lengths = batch.host_seq_lens_S.tolist()
        return tuple(
            latent_parts(batch, layer.group)
            if layer.latent_dim is not None
            else tuple(
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
        mask_QC = ahead_QC = None
        if queries > 1 or layer.alibi_slopes_H is not None:
            ahead_QC = keys_C - torch.arange(length - queries, length, device=device)[:, None]
        if queries > 1 and ahead_QC is not None:
            mask_QC = ahead_QC <= 0
            if layer.window is not None:
                mask_QC &= ahead_QC > -layer.window
        if layer.alibi_slopes_H is None:
            ahead_QC = None
        return SequencePart(rows=rows, tokens_C=tokens_C, mask_QC=mask_QC, ahead_QC=ahead_QC)

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

    def latent_cache_spec(self, geometry: KVGeometry) -> LatentCacheSpec:
        return latent_cache_spec(geometry)

    def forward_latent(
        self,
        layer: AttentionLayer,
        q_THW: torch.Tensor,
        rows_TW: torch.Tensor,
        cache: LatentCache,
        batch: Batch,
        metadata: tuple[tuple[LatentPart, ...], ...],
        out_THV: torch.Tensor,
    ) -> None:
        store_rows(rows_TW, cache.rows, batch.slots_GT[layer.group])
        attend_rows(q_THW, cache.rows, metadata[layer.group], out_THV, scale=layer.scale)

    def store(
        self, k_TKD: torch.Tensor, v_TKD: torch.Tensor, cache: KVCache, slots_T: torch.Tensor, block_size: int
    ) -> None:
        """Keep a step's keys and values."""
        del block_size
        _Rows(cache.k, cache.k_scales).store(slots_T, k_TKD)
        _Rows(cache.v, cache.v_scales).store(slots_T, v_TKD)

    def attend(
        self, layer: AttentionLayer, q_QHD: torch.Tensor, part: SequencePart, cache: KVCache, batch: Batch
    ) -> torch.Tensor:
        """The output [Q, H, D] of one sequence's rows."""
        del batch
        k_CKD = _Rows(cache.k, cache.k_scales).gather(part.tokens_C).to(q_QHD.dtype)
        v_CKD = _Rows(cache.v, cache.v_scales).gather(part.tokens_C).to(q_QHD.dtype)
        k_KCD, v_KCD = k_CKD.transpose(0, 1), v_CKD.transpose(0, 1)
        return _attend(layer, q_QHD.transpose(0, 1), k_KCD, v_KCD, part).transpose(0, 1)


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
    part: SequencePart,
) -> torch.Tensor:
    import torch

    mask_QC, slopes_H = part.mask_QC, layer.alibi_slopes_H
    if layer.softcap is None and slopes_H is None and layer.sinks_H is None:
        return torch.nn.functional.scaled_dot_product_attention(
            q_HQD[None], k_KCD[None], v_KCD[None], attn_mask=mask_QC, scale=layer.scale, enable_gqa=True
        )[0]
    # torch's function knows neither a cap on the scores nor sinks, and would round biases to the type of q:
    # the same, step by step in float32.
    group = layer.heads // layer.kv_heads
    k_HCD, v_HCD = k_KCD.repeat_interleave(group, dim=0), v_KCD.repeat_interleave(group, dim=0)
    scores_HQC = (q_HQD.float() @ k_HCD.float().transpose(1, 2)) * layer.scale
    if layer.softcap is not None:
        scores_HQC = layer.softcap * torch.tanh(scores_HQC / layer.softcap)
    if slopes_H is not None:
        assert part.ahead_QC is not None
        scores_HQC = scores_HQC + slopes_H[:, None, None] * part.ahead_QC
    if mask_QC is not None:
        scores_HQC = scores_HQC.masked_fill(~mask_QC, float("-inf"))
    if layer.sinks_H is not None:
        sinks_HQ1 = layer.sinks_H.float()[:, None, None].expand(-1, q_HQD.shape[1], 1)
        scores_HQC = torch.cat([scores_HQC, sinks_HQ1], dim=-1)
    weights_HQC = scores_HQC.softmax(dim=-1)[..., : k_KCD.shape[1]]
    return (weights_HQC @ v_HCD.float()).to(q_HQD.dtype)
