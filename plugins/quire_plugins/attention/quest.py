"""Quest: a decoding token attends to the pages that may matter to it (Tang et al., "Quest: Query-Aware
Sparsity for Efficient Long-Context LLM Inference", ICML 2024, section 3).

Beside its keys a page keeps their least and largest value in every dimension. For a query q no key of the
page can score more than the sum over dimensions of max(q * least, q * largest); the pages with the largest
such bounds are read, the others are not. Prompts, and the first layers, attend to everything.

Where several query heads share keys, a page is worth what it is worth to the head that wants it most; the
paper's models share none. The newest page is always read. Keys in a page of the cache, for B tokens:

    row        0 .. B - 1   B       B + 1
    key of     a token      least   largest

Shapes as in `quire_kernels`; P pages of a sequence, N of them chosen, G query heads that share keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces.attention import AttentionLayer, KVCache, KVCacheSpec, KVGeometry, TensorSpec
from quire_plugins.attention.sdpa import SdpaAttention, SdpaConfig, SequencePart

if TYPE_CHECKING:
    import torch

    from quire.runtime.batch import Batch


@dataclass
class QuestConfig:
    """Options of `attention=quest`."""

    pages: int = 128
    """Pages of a sequence that a decoding token reads in each layer, for each head of keys."""
    dense_layers: int = 2
    """The first layers, which attend to everything: few of their pages matter little."""

    def __post_init__(self) -> None:
        if self.pages < 1:
            raise UserError(f"attention.pages={self.pages}: must be at least 1")
        if self.dense_layers < 0:
            raise UserError(f"attention.dense_layers={self.dense_layers}: must be at least 0")


class QuestAttention(SdpaAttention):
    """Query-aware sparse decoding in plain torch: the pages with the largest bounds, any device."""

    Config = QuestConfig
    kv_dtypes = frozenset({"auto"})

    def __init__(self, *, config: QuestConfig, device: str) -> None:
        super().__init__(config=SdpaConfig(), device=device)
        self._config = config

    def kv_cache_spec(self, geometry: KVGeometry) -> KVCacheSpec:
        row = (geometry.kv_heads, geometry.head_dim)
        return KVCacheSpec(
            k=TensorSpec((geometry.num_blocks, geometry.block_size + 2, *row), geometry.dtype),
            v=TensorSpec((geometry.num_blocks, geometry.block_size, *row), geometry.dtype),
        )

    def store(
        self, k_TKD: torch.Tensor, v_TKD: torch.Tensor, cache: KVCache, slots_T: torch.Tensor, block_size: int
    ) -> None:
        """Bounds begin anew with a page's first token. They may be wider than what the page holds now, where
        tokens were taken back, and never narrower.
        """
        block_T, offset_T = slots_T // block_size, slots_T % block_size
        cache.k[block_T, offset_T] = k_TKD
        cache.v.flatten(0, 1)[slots_T] = v_TKD
        begun = block_T[offset_T == 0]
        cache.k[begun, block_size] = float("inf")
        cache.k[begun, block_size + 1] = float("-inf")
        block_TKD = block_T[:, None, None].expand_as(k_TKD)
        cache.k[:, block_size].scatter_reduce_(0, block_TKD, k_TKD, "amin")
        cache.k[:, block_size + 1].scatter_reduce_(0, block_TKD, k_TKD, "amax")

    def keys(self, cache: KVCache, tokens_C: torch.Tensor, block_size: int) -> torch.Tensor:
        return cache.k[tokens_C // block_size, tokens_C % block_size]

    def attend(
        self,
        layer: AttentionLayer,
        q_QHD: torch.Tensor,
        part: SequencePart,
        cache: KVCache,
        batch: Batch,
    ) -> torch.Tensor:
        block_size = batch.block_size
        context = part.tokens_C.shape[0]
        pages = -(-context // block_size)
        decodes = q_QHD.shape[0] == 1 and layer.window is None
        if not decodes or layer.index < self._config.dense_layers or pages <= self._config.pages:
            return super().attend(layer, q_QHD, part, cache, batch)
        blocks_P = part.tokens_C[::block_size] // block_size
        bounds_KP = page_bounds(q_QHD[0], cache.k[blocks_P, block_size], cache.k[blocks_P, block_size + 1])
        bounds_KP[:, -1] = float("inf")
        chosen_KN = bounds_KP.topk(self._config.pages, dim=1).indices
        return attend_pages(layer, q_QHD[0], cache, blocks_P, chosen_KN, context)[None]


def page_bounds(q_HD: torch.Tensor, least_PKD: torch.Tensor, largest_PKD: torch.Tensor) -> torch.Tensor:
    """float32 [K, P]: the most that a key of the page can come to with any query head that reads it."""
    import torch

    q_KGD = q_HD.float().unflatten(0, (least_PKD.shape[1], -1))
    above = torch.einsum("kgd,pkd->kgp", q_KGD.clamp(min=0), largest_PKD.float())
    below = torch.einsum("kgd,pkd->kgp", q_KGD.clamp(max=0), least_PKD.float())
    return (above + below).amax(dim=1)


def attend_pages(
    layer: AttentionLayer,
    q_HD: torch.Tensor,
    cache: KVCache,
    blocks_P: torch.Tensor,
    chosen_KN: torch.Tensor,
    context: int,
) -> torch.Tensor:
    """One token's attention [H, D] to the pages chosen for each head of keys, in float32."""
    import torch

    block_size, kv_heads = cache.v.shape[1], cache.v.shape[2]
    head_K11 = torch.arange(kv_heads, device=q_HD.device)[:, None, None]
    offset_B = torch.arange(block_size, device=q_HD.device)
    block_KN1 = blocks_P[chosen_KN][:, :, None]
    k_KCD = cache.k[block_KN1, offset_B, head_K11].flatten(1, 2).float()
    v_KCD = cache.v[block_KN1, offset_B, head_K11].flatten(1, 2).float()
    # Slots after the last token hold anything, and 0 times not-a-number is not a number.
    hidden_KC1 = (chosen_KN[:, :, None] * block_size + offset_B >= context).flatten(1)[:, :, None]
    k_KCD, v_KCD = k_KCD.masked_fill(hidden_KC1, 0.0), v_KCD.masked_fill(hidden_KC1, 0.0)
    scores_KGC = q_HD.float().unflatten(0, (kv_heads, -1)) @ k_KCD.transpose(1, 2) * layer.scale
    if layer.softcap is not None:
        scores_KGC = layer.softcap * torch.tanh(scores_KGC / layer.softcap)
    scores_KGC = scores_KGC.masked_fill(hidden_KC1.transpose(1, 2), float("-inf"))
    if layer.sinks_H is not None:
        sinks_KG1 = layer.sinks_H.float().view(kv_heads, -1, 1)
        scores_KGC = torch.cat([scores_KGC, sinks_KG1], dim=-1)
    weights_KGC = scores_KGC.softmax(dim=-1)[..., : k_KCD.shape[1]]
    return (weights_KGC @ v_KCD).flatten(0, 1).to(q_HD.dtype)
