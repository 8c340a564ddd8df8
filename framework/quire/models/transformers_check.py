"""A short text through transformers' own attention and through ours must give the same logits.

Nothing else would notice a model that does more with attention than it says: biases, masks, state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from quire.errors import MissingCapability
from quire.interfaces.attention import AttentionBackend, AttentionLayer
from quire.interfaces.kv_cache import KVCache, KVGeometry
from quire.models.kv_groups import kv_groups
from quire.runtime.batch import Batch

if TYPE_CHECKING:
    from quire.models.model import Model

_LENGTHS = (9, 5)
_LONGEST = 512
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 1e-1}
"""Relative error allowed, by type: wide enough for rounding, far below what a missing term makes."""


class SelfCheck:
    """Made while the network still has its own attention; `run` after ours is in it."""

    @torch.inference_mode()
    def __init__(self, network: Any, layers: tuple[AttentionLayer, ...], *, limit: int, device: str) -> None:
        vocabulary = network.config.get_text_config().vocab_size
        self._lengths = _lengths(layers, limit)
        # Spread over the vocabulary, clear of the special tokens that mostly begin or end it.
        self._texts = [
            torch.tensor([(37 * (i + 3) * (s + 1)) % vocabulary for i in range(length)], device=device)
            for s, length in enumerate(self._lengths)
        ]
        self._device = device
        self._expected_TV = torch.cat(
            [network(input_ids=text[None], use_cache=False).logits[0].float() for text in self._texts]
        )

    @torch.inference_mode()
    def run(self, model: Model, attention: AttentionBackend) -> None:
        """Both texts in one packed step. Raises MissingCapability if the logits differ."""
        groups = kv_groups(model.layers)
        batch = self._batch(attention.preferred_block_size, groups=len(groups))
        caches = tuple(self._cache(model, layer, attention) for layer in model.layers)
        metadata = attention.prepare(batch, tuple(model.layers[group.layers[0]] for group in groups))
        logits_TV = model.logits(model.forward(batch, caches, metadata))
        error = float((logits_TV - self._expected_TV).norm() / self._expected_TV.norm())
        if not error <= _TOLERANCE[model.dtype]:
            raise MissingCapability(
                f"model={model.info.name}: it does more in attention than ours: logits differ by {error:.1%}"
            )

    def _batch(self, block_size: int, *, groups: int) -> Batch:
        """Text s lies in row s of a table of blocks one after another."""
        lengths = torch.tensor(self._lengths, dtype=torch.int32)
        starts = torch.tensor([0, *lengths.cumsum(0)], dtype=torch.int32)
        positions = [torch.arange(length) for length in self._lengths]
        blocks = self._blocks(block_size)
        slots = torch.cat([span + s * blocks * block_size for s, span in enumerate(positions)])
        table_SM = torch.arange(len(positions) * blocks, dtype=torch.int32).view(-1, blocks)
        return Batch(
            token_ids_T=torch.cat(self._texts),
            positions_T=torch.cat(positions).to(self._device),
            query_starts_S1=starts.to(self._device),
            seq_lens_S=lengths.to(self._device),
            tables_GSM=(table_SM.to(self._device),) * groups,
            slots_GT=(slots.to(self._device),) * groups,
            logit_rows_R=torch.arange(sum(self._lengths), device=self._device),
            host_query_starts_S1=starts,
            host_seq_lens_S=lengths,
            block_size=block_size,
        )

    def _cache(self, model: Model, layer: AttentionLayer, attention: AttentionBackend) -> KVCache:
        block_size = attention.preferred_block_size
        geometry = KVGeometry(
            num_blocks=len(self._lengths) * self._blocks(block_size),
            kv_heads=layer.kv_heads,
            block_size=block_size,
            head_dim=layer.head_dim,
            dtype=model.dtype,
            kv_dtype="auto",  # what is checked is the arithmetic
        )
        cache = attention.kv_cache_spec(geometry).allocate(self._device)
        for tensor in cache.tensors():
            tensor.zero_()
        return cache

    def _blocks(self, block_size: int) -> int:
        """Of the longest text."""
        return -(-max(self._lengths) // block_size)


def _lengths(layers: tuple[AttentionLayer, ...], limit: int) -> tuple[int, ...]:
    """Long enough for the last tokens to outgrow the narrowest window, if that is cheap."""
    narrowest = min((layer.window for layer in layers if layer.window is not None), default=0)
    first, *others = _LENGTHS
    longer = first + narrowest
    return (longer, *others) if longer <= min(limit, _LONGEST) else _LENGTHS
