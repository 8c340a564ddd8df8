"""Quest: a decoding token attends to the pages that may matter to it (Tang et al., "Quest: Query-Aware
Sparsity for Efficient Long-Context LLM Inference", ICML 2024, section 3).

Beside its keys a page keeps their least and largest value in every dimension. For a query q no key of the
page can score more than the sum over dimensions of max(q * least, q * largest); the pages with the largest
such bounds are read, the others are not. Prompts, and the first layers, attend to everything.

Where several query heads share keys, a page is worth what it is worth to the head that wants it most; the
paper's models share none. With ALiBi a page's bound gets the most that it adds to any key there. The newest
page is always read. Rows of a page in the cache, for B tokens:

    row      0 .. B - 1          B
    keys     that of a token     the least
    values   that of a token     the largest of the keys

On a GPU decoding tokens read their pages by Triton's kernels, and all others attend as in `attention=paged`;
on a CPU all of it is plain torch.

Shapes as in `quire_kernels`; P pages of a sequence, N of them chosen, G query heads that share keys.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from quire.errors import UserError
from quire.interfaces.attention import AttentionLayer
from quire.interfaces.kv_cache import KVCache, KVCacheSpec, KVGeometry, TensorSpec
from quire_plugins.attention import quest_gpu
from quire_plugins.attention.gpu import check_gpu
from quire_plugins.attention.refusals import refused_by
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
    """Query-aware sparse decoding, by the pages with the largest bounds: Triton on a GPU, torch on a CPU."""

    Config = QuestConfig
    kv_dtypes = frozenset({"auto"})
    supports_latents = False

    def __init__(self, *, config: QuestConfig, device: str) -> None:
        super().__init__(config=SdpaConfig(), device=device)
        self._config = config
        self.capturable = self._on_gpu = device == "cuda"
        if self._on_gpu:
            check_gpu("quest")

    def kv_cache_spec(self, geometry: KVGeometry) -> KVCacheSpec:
        blocks, heads, size, dim = (
            geometry.num_blocks,
            geometry.kv_heads,
            geometry.block_size,
            geometry.head_dim,
        )
        if self._on_gpu:
            from quire_kernels.triton import kv_cache_shapes

            with refused_by("quest"):
                kv_cache_shapes(blocks, heads, size, dim, geometry.dtype)
        rows = TensorSpec((blocks, size + 1, heads, dim), geometry.dtype)
        return KVCacheSpec(k=rows, v=rows)

    def prepare(self, batch: Batch, layers: tuple[AttentionLayer, ...]) -> Any:
        if not self._on_gpu:
            return super().prepare(batch, layers)
        return tuple(quest_gpu.group_step(batch, layer) for layer in layers)

    def forward(
        self,
        layer: AttentionLayer,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        cache: KVCache,
        batch: Batch,
        metadata: Any,
        out_THD: torch.Tensor,
    ) -> None:
        if not self._on_gpu:
            super().forward(layer, q_THD, k_TKD, v_TKD, cache, batch, metadata, out_THD)
            return
        quest_gpu.store(k_TKD, v_TKD, cache, batch.slots_GT[layer.group], batch.block_size)
        pages = None if self._is_dense(layer) else self._config.pages
        quest_gpu.attend(layer, metadata[layer.group], q_THD, cache, out_THD, pages=pages)

    def _is_dense(self, layer: AttentionLayer) -> bool:
        """Whether its tokens attend to everything that they see, also while they decode."""
        return layer.index < self._config.dense_layers or layer.window is not None

    def store(
        self, k_TKD: torch.Tensor, v_TKD: torch.Tensor, cache: KVCache, slots_T: torch.Tensor, block_size: int
    ) -> None:
        """Bounds begin anew with a page's first token. They may be wider than what the page holds now, where
        tokens were taken back, and never narrower.
        """
        block_T, offset_T = slots_T // block_size, slots_T % block_size
        cache.k[block_T, offset_T] = k_TKD
        cache.v[block_T, offset_T] = v_TKD
        begun = block_T[offset_T == 0]
        cache.k[begun, block_size] = float("inf")
        cache.v[begun, block_size] = float("-inf")
        block_TKD = block_T[:, None, None].expand_as(k_TKD)
        cache.k[:, block_size].scatter_reduce_(0, block_TKD, k_TKD, "amin")
        cache.v[:, block_size].scatter_reduce_(0, block_TKD, k_TKD, "amax")

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
        if q_QHD.shape[0] != 1 or self._is_dense(layer) or pages <= self._config.pages:
            row_C = part.tokens_C + part.tokens_C // block_size  # a page has one more row than it has slots
            return super().attend(layer, q_QHD, replace(part, tokens_C=row_C), cache, batch)
        blocks_P = part.tokens_C[::block_size] // block_size
        least_PKD, largest_PKD = cache.k[blocks_P, block_size], cache.v[blocks_P, block_size]
        bounds_KGP = page_bounds(q_QHD[0], least_PKD, largest_PKD)
        if layer.alibi_slopes_H is not None:
            bounds_KGP = biased_bounds(layer, bounds_KGP, layer.alibi_slopes_H, block_size, context)
        bounds_KP = bounds_KGP.amax(dim=1)
        bounds_KP[:, -1] = float("inf")
        chosen_KN = bounds_KP.topk(self._config.pages, dim=1).indices
        return attend_pages(layer, q_QHD[0], cache, blocks_P, chosen_KN, context)[None]


def page_bounds(q_HD: torch.Tensor, least_PKD: torch.Tensor, largest_PKD: torch.Tensor) -> torch.Tensor:
    """float32 [K, G, P]: the most that the product of a query head and a key of the page can come to."""
    import torch

    q_KGD = q_HD.float().unflatten(0, (least_PKD.shape[1], -1))
    above = torch.einsum("kgd,pkd->kgp", q_KGD.clamp(min=0), largest_PKD.float())
    below = torch.einsum("kgd,pkd->kgp", q_KGD.clamp(max=0), least_PKD.float())
    return above + below


def biased_bounds(
    layer: AttentionLayer, bounds_KGP: torch.Tensor, slopes_H: torch.Tensor, block_size: int, context: int
) -> torch.Tensor:
    """float32 [K, G, P]: the most that a key of the page can score, ALiBi included."""
    import torch

    first_P = torch.arange(0, context, block_size, device=slopes_H.device)
    last_P = (first_P + block_size).clamp(max=context) - 1
    ahead_2P = torch.stack([first_P, last_P]) - (context - 1)
    slopes_KG11 = slopes_H.float().view(*bounds_KGP.shape[:2], 1, 1)
    # Whichever way a slope leads, one of the page's two ends has the most of it.
    return _capped(bounds_KGP * layer.scale, layer.softcap) + (slopes_KG11 * ahead_2P).amax(dim=2)


def _capped(scores: torch.Tensor, softcap: float | None) -> torch.Tensor:
    return scores if softcap is None else softcap * (scores / softcap).tanh()


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

    block_size, kv_heads = cache.k.shape[1] - 1, cache.k.shape[2]
    head_K11 = torch.arange(kv_heads, device=q_HD.device)[:, None, None]
    offset_B = torch.arange(block_size, device=q_HD.device)
    block_KN1 = blocks_P[chosen_KN][:, :, None]
    k_KCD = cache.k[block_KN1, offset_B, head_K11].flatten(1, 2).float()
    v_KCD = cache.v[block_KN1, offset_B, head_K11].flatten(1, 2).float()
    position_KC = (chosen_KN[:, :, None] * block_size + offset_B).flatten(1)
    # Slots after the last token hold anything, and 0 times not-a-number is not a number.
    hidden_KC1 = (position_KC >= context)[:, :, None]
    k_KCD, v_KCD = k_KCD.masked_fill(hidden_KC1, 0.0), v_KCD.masked_fill(hidden_KC1, 0.0)
    scores_KGC = q_HD.float().unflatten(0, (kv_heads, -1)) @ k_KCD.transpose(1, 2) * layer.scale
    scores_KGC = _capped(scores_KGC, layer.softcap)
    if layer.alibi_slopes_H is not None:
        slopes_KG1 = layer.alibi_slopes_H.float().view(kv_heads, -1, 1)
        scores_KGC = scores_KGC + slopes_KG1 * (position_KC - (context - 1))[:, None]
    scores_KGC = scores_KGC.masked_fill(hidden_KC1.transpose(1, 2), float("-inf"))
    if layer.sinks_H is not None:
        sinks_KG1 = layer.sinks_H.float().view(kv_heads, -1, 1)
        scores_KGC = torch.cat([scores_KGC, sinks_KG1], dim=-1)
    weights_KGC = scores_KGC.softmax(dim=-1)[..., : k_KCD.shape[1]]
    return (weights_KGC @ v_KCD).flatten(0, 1).to(q_HD.dtype)
