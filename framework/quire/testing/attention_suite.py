"""What every attention backend must do, as tests that a backend's own tests inherit."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import product

from quire.interfaces.attention import AttentionBackend
from quire.testing.attention_problem import AttentionProblem, Geometry

_TOLERANCES = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}
_KV_TOLERANCES = {"int8": 0.06, "fp8_e4m3": 0.25}
"""Half a step of the largest number drawn, about 4, and what rounded keys do to the weights."""


class AttentionSuite(ABC):
    """Inherit, and say how to make one:

        class TestMine(AttentionSuite):
            def make(self) -> AttentionBackend:
                return Mine(config=MineConfig(), device=self.device)

    Outputs are compared with dense attention in float64, in every element type, type of cache and block size
    that the backend declares; softcap, sinks, ALiBi and latents are tried where it says that it has them.
    """

    device: str = "cpu"
    """Where to run: "cpu" or "cuda"."""
    head_dims: Sequence[int] = (64, 128)

    @abstractmethod
    def make(self) -> AttentionBackend:
        """A backend for `self.device`."""

    def test_lengths_around_block_boundaries(self) -> None:
        backend = self.make()
        for size in backend.block_sizes:
            lengths = [1, 2, size - 1, size, size + 1, 2 * size + 1]
            self._check(backend, Geometry(block_size=size), lengths, chunk=3 * size)

    def test_every_element_type(self) -> None:
        backend = self.make()
        for dtype in sorted(backend.dtypes):
            for head_dim in self.head_dims:
                geometry = Geometry(block_size=backend.preferred_block_size, head_dim=head_dim)
                self._check(backend, geometry, [5, 150, 70], chunk=100, dtype=dtype)

    def test_every_type_of_cache(self) -> None:
        """A cache in 8 bits is far less exact, but no less of a cache."""
        backend = self.make()
        for kv_dtype in sorted(backend.kv_dtypes - {"auto"}):
            for dtype in sorted(backend.dtypes):
                for size in backend.block_sizes:
                    for chunk in (7, 100):
                        geometry = Geometry(block_size=size, windows=(None, 20))
                        self._check(
                            backend, geometry, [5, 70, 33], chunk=chunk, dtype=dtype, kv_dtype=kv_dtype
                        )

    def test_every_ratio_of_heads(self) -> None:
        backend = self.make()
        for heads, kv_heads in ((1, 1), (4, 4), (4, 2), (8, 1), (9, 3), (14, 2)):
            geometry = Geometry(block_size=backend.preferred_block_size, heads=heads, kv_heads=kv_heads)
            self._check(backend, geometry, [3, 140], chunk=90)

    def test_chunks_and_decodes_come_to_the_same(self) -> None:
        backend = self.make()
        for chunk in (1, 2, 7):
            self._check(backend, Geometry(block_size=backend.block_sizes[0]), [40, 3, 17], chunk=chunk)

    def test_windows(self) -> None:
        """Groups with and without a window in one model; blocks that a window has passed hold poison."""
        backend = self.make()
        size = backend.block_sizes[0]
        for window in (1, 2, size - 1, size, size + 1, 3 * size):
            geometry = Geometry(block_size=size, windows=(None, window))
            for chunk in (1, 3 * size):
                self._check(backend, geometry, [4 * size + 3, 2 * size], chunk=chunk)

    def test_softcap(self) -> None:
        backend = self.make()
        if backend.supports_softcap:
            geometry = Geometry(block_size=backend.preferred_block_size, softcap=1.5, windows=(None, 20))
            self._check(backend, geometry, [130, 9], chunk=70)

    def test_sinks(self) -> None:
        backend = self.make()
        if backend.supports_sinks:
            geometry = Geometry(block_size=backend.preferred_block_size, sinks=True, windows=(None, 20))
            self._check(backend, geometry, [130, 9], chunk=70)

    def test_alibi(self) -> None:
        backend = self.make()
        if backend.supports_alibi:
            for kv_heads in (1, 4):
                geometry = Geometry(
                    block_size=backend.preferred_block_size, kv_heads=kv_heads, alibi=True, windows=(None, 20)
                )
                for chunk in (1, 70):
                    self._check(backend, geometry, [130, 9], chunk=chunk)

    def test_latents(self) -> None:
        """All heads, a number that fills no tile, and rows whose values are a part of them."""
        backend = self.make()
        if backend.supports_latents:
            problems = ((backend.block_sizes[0], 5, 7), (backend.block_sizes[-1], 16, 90))
            kinds = product(sorted(backend.latent_kv_dtypes), sorted(backend.dtypes))
            for (kv_dtype, dtype), (size, heads, chunk) in product(kinds, problems):
                geometry = Geometry(block_size=size, heads=heads, kv_heads=1, head_dim=80, latent_dim=64)
                lengths = [1, 40, size + 1, 150]
                self._check(backend, geometry, lengths, chunk=chunk, dtype=dtype, kv_dtype=kv_dtype)

    def test_queries_and_keys_as_the_projection_leaves_them(self) -> None:
        """Norms, and a rotation of all or some dimensions, on the way to the cache."""
        backend = self.make()
        head_dim = self.head_dims[0]
        for rotated, normed in ((head_dim, False), (head_dim, True), (head_dim // 2, True)):
            geometry = Geometry(
                block_size=backend.preferred_block_size, head_dim=head_dim, rotated=rotated, normed=normed
            )
            self._check(backend, geometry, [130, 9], chunk=70)

    def test_random_problems(self) -> None:
        backend = self.make()
        for seed in range(25):
            draw = random.Random(seed)
            kv_heads = draw.choice((1, 2, 3))
            geometry = Geometry(
                heads=kv_heads * draw.choice((1, 2, 4)),
                kv_heads=kv_heads,
                head_dim=draw.choice(self.head_dims),
                block_size=draw.choice(backend.block_sizes),
                windows=(None, draw.randint(1, 60), draw.randint(60, 200)),
                softcap=draw.choice((None, 2.0)) if backend.supports_softcap else None,
                sinks=backend.supports_sinks and draw.random() < 0.5,
                alibi=backend.supports_alibi and seed % 3 == 2,
            )
            lengths = [draw.randint(1, 200) for _ in range(draw.randint(1, 4))]
            dtype = draw.choice(sorted(backend.dtypes))
            self._check(backend, geometry, lengths, chunk=draw.choice((30, 100, 200)), dtype=dtype, seed=seed)

    def _check(
        self,
        backend: AttentionBackend,
        geometry: Geometry,
        lengths: Sequence[int],
        *,
        chunk: int,
        dtype: str = "",
        kv_dtype: str = "auto",
        seed: int = 0,
    ) -> None:
        import torch

        dtype = dtype or ("float32" if "float32" in backend.dtypes else min(backend.dtypes))
        problem = AttentionProblem(
            geometry,
            lengths,
            dtype=getattr(torch, dtype),
            kv_dtype=kv_dtype,
            device=self.device,
            seed=seed,
        )
        tolerance = _TOLERANCES[dtype] + _KV_TOLERANCES.get(kv_dtype, 0.0)
        problem.check(backend, chunk=chunk, tolerance=tolerance)
