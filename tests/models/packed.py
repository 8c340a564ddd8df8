"""Runs a model over packed steps without an engine: block tables, slots and batches made by hand."""

from collections.abc import Sequence

import torch
from torch import Tensor

from quire.interfaces.attention import AttentionBackend, AttentionLayer
from quire.interfaces.kv_cache import (
    KVCache,
    KVCacheSpec,
    KVGeometry,
    LatentCache,
    LatentCacheSpec,
    LayerCache,
    TensorSpec,
)
from quire.models.kv_groups import kv_groups
from quire.models.model import Model
from quire.runtime.batch import Batch
from quire.runtime.layer_cache import cache_spec
from quire_kernels import reference

BLOCK_SIZE = 16


class ReferenceAttention(AttentionBackend):
    """The oracle kernels as a backend: float32, slow, obvious."""

    supports_alibi = True
    supports_latents = True

    def kv_cache_spec(self, geometry: KVGeometry) -> KVCacheSpec:
        k, v = reference.kv_cache_shapes(
            geometry.num_blocks, geometry.kv_heads, geometry.block_size, geometry.head_dim, geometry.dtype
        )
        return KVCacheSpec(k=TensorSpec(k, geometry.dtype), v=TensorSpec(v, geometry.dtype))

    def prepare(self, batch: Batch, layers: tuple[AttentionLayer, ...]) -> None:
        return None

    def forward(
        self,
        layer: AttentionLayer,
        q_THD: Tensor,
        k_TKD: Tensor,
        v_TKD: Tensor,
        cache: KVCache,
        batch: Batch,
        metadata: None,
        out_THD: Tensor,
    ) -> None:
        reference.store_kv(k_TKD, v_TKD, cache.k, cache.v, batch.slots_GT[layer.group])
        reference.paged_attention(
            q_THD,
            cache.k,
            cache.v,
            batch.tables_GSM[layer.group],
            batch.query_starts_S1,
            batch.seq_lens_S,
            out_THD,
            scale=layer.scale,
            window=layer.window,
            softcap=layer.softcap,
            alibi_slopes_H=layer.alibi_slopes_H,
            sinks_H=layer.sinks_H,
        )

    def latent_cache_spec(self, geometry: KVGeometry) -> LatentCacheSpec:
        assert geometry.latent_dim is not None
        shape = reference.latent_cache_shape(
            geometry.num_blocks,
            geometry.block_size,
            geometry.latent_dim,
            geometry.head_dim - geometry.latent_dim,
            geometry.dtype,
        )
        return LatentCacheSpec(rows=TensorSpec(shape, geometry.dtype))

    def forward_latent(
        self,
        layer: AttentionLayer,
        q_THW: Tensor,
        rows_TW: Tensor,
        cache: LatentCache,
        batch: Batch,
        metadata: None,
        out_THV: Tensor,
    ) -> None:
        reference.store_latents(rows_TW, cache.rows, batch.slots_GT[layer.group])
        reference.mla_decode(
            q_THW,
            cache.rows,
            batch.tables_GSM[layer.group],
            batch.query_starts_S1,
            batch.seq_lens_S,
            out_THV,
            scale=layer.scale,
        )


class PackedRun:
    """Sequences that grow step by step in one KV memory. Every KV group has its own shuffled blocks."""

    def __init__(self, model: Model, attention: AttentionBackend, sequences: Sequence[Sequence[int]]) -> None:
        generator = torch.Generator().manual_seed(7)
        self._model, self._attention, self._sequences = model, attention, sequences
        self._done = [0] * len(sequences)
        self._groups = kv_groups(model.layers)
        blocks = -(-max(map(len, sequences)) // BLOCK_SIZE)
        total = blocks * len(sequences) + 1
        self._tables = [
            (torch.randperm(total - 1, generator=generator) + 1)
            .reshape(len(sequences), blocks)
            .to(torch.int32)
            for _ in self._groups
        ]
        self._caches = tuple(self._cache(layer, total) for layer in model.layers)

    def step(self, tokens: Sequence[int], *, logit_rows: Sequence[int] | None = None) -> Tensor:
        """Compute the next `tokens[s]` tokens of sequence s (0: it is not in the step), mixed in one batch.

        Returns the logits of the given rows, of all by default.
        """
        members = [s for s, count in enumerate(tokens) if count]
        positions = [range(self._done[s], self._done[s] + tokens[s]) for s in members]
        flat = [self._sequences[s][p] for s, span in zip(members, positions, strict=True) for p in span]
        starts = torch.tensor([0, *(len(span) for span in positions)]).cumsum(0).to(torch.int32)
        lengths = torch.tensor([span.stop for span in positions], dtype=torch.int32)
        rows = range(len(flat)) if logit_rows is None else logit_rows
        batch = Batch(
            token_ids_T=torch.tensor(flat),
            positions_T=torch.tensor([p for span in positions for p in span]),
            query_starts_S1=starts,
            seq_lens_S=lengths,
            tables_GSM=tuple(table[members] for table in self._tables),
            slots_GT=tuple(self._slots(table[members], positions) for table in self._tables),
            logit_rows_R=torch.tensor(list(rows), dtype=torch.int64),
            host_query_starts_S1=starts,
            host_seq_lens_S=lengths,
            block_size=BLOCK_SIZE,
        )
        layers = tuple(self._model.layers[group.layers[0]] for group in self._groups)
        metadata = self._attention.prepare(batch, layers)
        for s in members:
            self._done[s] += tokens[s]
        return self._model.logits(self._model.forward(batch, self._caches, metadata))

    def finish(self, chunk: int) -> list[Tensor]:
        """Step all by up to `chunk` tokens until they are computed; each one's logits [tokens, V]."""
        parts: list[list[Tensor]] = [[] for _ in self._sequences]
        while counts := self._next(chunk):
            logits = self.step(counts)
            for s, part in enumerate(logits.split(counts)):
                parts[s].append(part)
        return [torch.cat(part) for part in parts]

    def _next(self, chunk: int) -> list[int]:
        left = [len(seq) - done for seq, done in zip(self._sequences, self._done, strict=True)]
        return [min(chunk, count) for count in left] if any(left) else []

    def _cache(self, layer: AttentionLayer, blocks: int) -> LayerCache:
        spec = cache_spec(
            self._attention,
            self._groups[layer.group],
            num_blocks=blocks,
            block_size=BLOCK_SIZE,
            dtype=self._model.dtype,
            kv_dtype="auto",
        )
        cache = spec.allocate("cpu")
        for tensor in cache.tensors():
            tensor.fill_(float("nan"))
        return cache

    @staticmethod
    def _slots(table_SM: Tensor, positions: Sequence[range]) -> Tensor:
        return torch.tensor(
            [
                int(table_SM[s, p // BLOCK_SIZE]) * BLOCK_SIZE + p % BLOCK_SIZE
                for s, span in enumerate(positions)
                for p in span
            ]
        )


def random_sequences(lengths: Sequence[int], *, vocabulary: int, seed: int = 0) -> list[list[int]]:
    """Token ids from 3 on: neither padding nor begin nor end."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, vocabulary, (n,), generator=generator).tolist() for n in lengths]
