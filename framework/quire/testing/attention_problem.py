"""Attention over a paged cache as an engine would ask for it, step by step, and what must come out.

Every sequence's queries, keys and values are drawn beforehand. The expected output is dense attention over
them in float64, which knows nothing of blocks. Whatever no query may see is poison: cache slots not written
yet, blocks that a window has passed, and table entries that nobody needs.

Shapes as in `quire_kernels`: T tokens of a step, S sequences, H and K heads, D dimensions, N tokens of one
sequence, C of its context, Q of them queries.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.interfaces.attention import AttentionBackend, AttentionLayer, HeadTransform
from quire.interfaces.kv_cache import KVGeometry, LatentCache, LayerCache
from quire.testing.dense_attention import dense_attention
from quire.testing.plain_ops import PlainOps

if TYPE_CHECKING:
    import torch

    from quire.runtime.batch import Batch


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What is constant in a problem. One KV group, and one layer, for each of `windows`."""

    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    block_size: int = 16
    windows: tuple[int | None, ...] = (None,)
    softcap: float | None = None
    sinks: bool = False
    alibi: bool = False
    rotated: int | None = None
    """Dimensions that a rotation turns: q and k are then given as a projection leaves them."""
    normed: bool = False
    """Those are normed before they turn."""
    latent_dim: int | None = None
    """The keys of the only head, `head_dim` wide, are rows of latents that begin with the values."""


@dataclass(frozen=True, slots=True)
class Part:
    """A sequence's share of a step: its tokens start .. start + count."""

    sequence: int
    start: int
    count: int


class AttentionProblem:
    """Sequences of the given lengths, whose blocks lie in random order in a cache full of poison."""

    def __init__(
        self,
        geometry: Geometry,
        lengths: Sequence[int],
        *,
        dtype: torch.dtype,
        kv_dtype: str = "auto",
        device: str,
        seed: int,
    ) -> None:
        import torch

        self._geometry = geometry
        self._lengths = tuple(lengths)
        self._dtype = dtype
        self._kv_dtype = kv_dtype
        self._device = device
        self._random = random.Random(seed)
        generator = torch.Generator().manual_seed(seed)
        width = geometry.heads + 2 * geometry.kv_heads
        self._qkv_GSNWD = [
            [
                torch.randn(length, width, geometry.head_dim, generator=generator).to(device, dtype)
                for length in lengths
            ]
            for _ in geometry.windows
        ]
        sinks_H = torch.randn(geometry.heads, generator=generator).to(device) if geometry.sinks else None
        slopes_H = None
        if geometry.alibi:  # as steep as the paper's: from a half to a 256th
            slopes_H = (0.5 ** torch.linspace(1, 8, geometry.heads)).to(device)
        self.layers = tuple(
            AttentionLayer(
                index=group,
                group=group,
                heads=geometry.heads,
                kv_heads=geometry.kv_heads,
                head_dim=geometry.head_dim,
                scale=geometry.head_dim**-0.5,
                window=window,
                softcap=geometry.softcap,
                alibi_slopes_H=slopes_H,
                sinks_H=sinks_H,
                latent_dim=geometry.latent_dim,
            )
            for group, window in enumerate(geometry.windows)
        )
        self._heads = None if geometry.rotated is None else self._transform(geometry.rotated, generator)
        blocks = [-(-length // geometry.block_size) for length in lengths]
        self._num_blocks = sum(blocks) + 3
        self._tables: list[list[list[int]]] = []
        self._never_written: list[int] = []
        for _ in geometry.windows:
            shuffled = self._random.sample(range(self._num_blocks), self._num_blocks)
            self._tables.append([[shuffled.pop() for _ in range(count)] for count in blocks])
            self._never_written.append(shuffled.pop())

    def _transform(self, rotated: int, generator: torch.Generator) -> HeadTransform:
        """Angles for every position, and weights of norms; on the device and in the type of the problem."""
        import torch

        speeds_I = 0.8 ** torch.arange(rotated // 2)
        turns_PI = torch.outer(torch.arange(float(max(self._lengths))), speeds_I)
        weights: list[torch.Tensor | None] = [None, None]
        if self._geometry.normed:
            drawn_2D = torch.rand(2, self._geometry.head_dim, generator=generator) + 0.5
            weights = list(drawn_2D.to(self._device, self._dtype))
        return HeadTransform(
            ops=PlainOps(),
            cos_sin_PR=torch.cat([turns_PI.cos(), turns_PI.sin()], dim=-1).to(self._device),
            q_norm_D=weights[0],
            k_norm_D=weights[1],
            eps=1e-5,
            unit_offset=self._geometry.normed,
        )

    def check(self, backend: AttentionBackend, *, chunk: int, tolerance: float) -> None:
        """Compute every sequence in chunks of up to `chunk` tokens, and compare every output."""
        caches = self._caches(backend)
        for step in self._steps(chunk):
            batch = self._batch(step)
            metadata = backend.prepare(batch, self.layers)
            for layer, cache in zip(self.layers, caches, strict=True):
                self._forget_passed(layer, cache, step)
                self._check_layer(backend, layer, cache, batch, metadata, step, tolerance)

    def _check_layer(
        self,
        backend: AttentionBackend,
        layer: AttentionLayer,
        cache: LayerCache,
        batch: Batch,
        metadata: object,
        step: list[Part],
        tolerance: float,
    ) -> None:
        import torch

        qkv_SNWD = self._qkv_GSNWD[layer.group]
        # The three are slices of one tensor, as a joint projection leaves them.
        qkv_TWD = torch.cat([qkv_SNWD[p.sequence][p.start : p.start + p.count] for p in step])
        q_THD, k_TKD, v_TKD = qkv_TWD.split([layer.heads, layer.kv_heads, layer.kv_heads], dim=1)
        out_THD = q_THD.new_full((*q_THD.shape[:2], layer.value_dim), math.nan)
        if isinstance(cache, LatentCache):
            backend.forward_latent(layer, q_THD, k_TKD[:, 0], cache, batch, metadata, out_THD)
        elif self._heads is None:
            backend.forward(layer, q_THD, k_TKD, v_TKD, cache, batch, metadata, out_THD)
        else:
            backend.forward_projected(
                layer, self._heads, q_THD, k_TKD, v_TKD, cache, batch, metadata, out_THD
            )
        expected_THD = torch.cat([self._expected(layer, part) for part in step])
        error = (out_THD.to("cpu", torch.float64) - expected_THD).abs()
        worst = float(error.nan_to_num(nan=math.inf).max())
        assert worst <= tolerance, (
            f"off by {worst:.3g} (allowed {tolerance}) in {self._dtype}, kv_dtype={self._kv_dtype}, "
            f"{self._geometry}, window {layer.window}, {step}, lengths {self._lengths}"
        )

    def _expected(self, layer: AttentionLayer, part: Part) -> torch.Tensor:
        """Dense attention of the part's queries over the sequence so far, [Q, H, D] in float64."""
        qkv_CWD = self._qkv_GSNWD[layer.group][part.sequence][: part.start + part.count]
        return dense_attention(layer, qkv_CWD, first_query=part.start, heads=self._heads)

    def _caches(self, backend: AttentionBackend) -> tuple[LayerCache, ...]:
        geometry = self._geometry
        held = KVGeometry(
            num_blocks=self._num_blocks,
            kv_heads=geometry.kv_heads,
            block_size=geometry.block_size,
            head_dim=geometry.head_dim,
            dtype=self._dtype,
            kv_dtype=self._kv_dtype,
            latent_dim=geometry.latent_dim,
        )
        latent = geometry.latent_dim is not None
        spec = backend.latent_cache_spec(held) if latent else backend.kv_cache_spec(held)
        caches = tuple(spec.allocate(self._device) for _ in self.layers)
        for cache in caches:
            for tensor in cache.tensors():
                assert tensor.shape[0] == self._num_blocks, f"dimension 0 is the block: {tensor.shape}"
                _poison(tensor)
        return caches

    def _steps(self, chunk: int) -> list[list[Part]]:
        """Steps in which every sequence that is not complete takes part, in random order; most of them."""
        done = [0] * len(self._lengths)
        steps: list[list[Part]] = []
        while any(at < length for at, length in zip(done, self._lengths, strict=True)):
            step: list[Part] = []
            for sequence in self._random.sample(range(len(done)), len(done)):
                left = self._lengths[sequence] - done[sequence]
                if left and (not step or self._random.random() < 0.8):
                    count = min(left, self._random.randint(1, chunk))
                    step.append(Part(sequence, done[sequence], count))
                    done[sequence] += count
            steps.append(step)
        return steps

    def _batch(self, step: list[Part]) -> Batch:
        import torch

        from quire.runtime.batch import Batch

        size = self._geometry.block_size
        positions = [p.start + i for p in step for i in range(p.count)]
        owners = [p.sequence for p in step for _ in range(p.count)]
        starts = [sum(p.count for p in step[:s]) for s in range(len(step) + 1)]
        lengths = [p.start + p.count for p in step]

        def tensor(values: list[int] | list[list[int]], dtype: torch.dtype) -> torch.Tensor:
            return torch.tensor(values, dtype=dtype, device=self._device)

        return Batch(
            token_ids_T=tensor([0] * len(positions), torch.int64),
            positions_T=tensor(positions, torch.int64),
            query_starts_S1=tensor(starts, torch.int32),
            seq_lens_S=tensor(lengths, torch.int32),
            tables_GSM=tuple(tensor(self._table_rows(layer, step), torch.int32) for layer in self.layers),
            slots_GT=tuple(
                tensor(
                    [
                        tables[owner][position // size] * size + position % size
                        for owner, position in zip(owners, positions, strict=True)
                    ],
                    torch.int64,
                )
                for tables in self._tables
            ),
            logit_rows_R=tensor([start - 1 for start in starts[1:]], torch.int64),
            host_query_starts_S1=torch.tensor(starts, dtype=torch.int32),
            host_seq_lens_S=torch.tensor(lengths, dtype=torch.int32),
            block_size=size,
        )

    def _table_rows(self, layer: AttentionLayer, step: list[Part]) -> list[list[int]]:
        """Block tables of the step; entries that no query needs name a block of poison."""
        size = self._geometry.block_size
        width = max(-(-(p.start + p.count) // size) for p in step) + 1
        poison = self._never_written[layer.group]
        rows: list[list[int]] = []
        for part in step:
            row = [poison] * width
            first, end = _first_seen(layer, part) // size, -(-(part.start + part.count) // size)
            row[first:end] = self._tables[layer.group][part.sequence][first:end]
            rows.append(row)
        return rows

    def _forget_passed(self, layer: AttentionLayer, cache: LayerCache, step: list[Part]) -> None:
        """Poison the blocks that the window has passed: another sequence may have them by now."""
        for part in step:
            passed = _first_seen(layer, part) // self._geometry.block_size
            for block in self._tables[layer.group][part.sequence][:passed]:
                for tensor in cache.tensors():
                    _poison(tensor[block])


def _poison(tensor: torch.Tensor) -> None:
    """Fill with what spoils any sum: NaN, or all bits set where there is none."""
    import torch

    if tensor.dtype.is_floating_point and tensor.itemsize > 1:
        tensor.fill_(math.nan)
    else:
        tensor.view(torch.uint8).fill_(255)


def _first_seen(layer: AttentionLayer, part: Part) -> int:
    """The first position that the part's queries see."""
    return 0 if layer.window is None else max(0, part.start - layer.window + 1)
