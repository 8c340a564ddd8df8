"""A layer's cache: asked of a backend as a geometry, planned as specs, allocated as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import torch


def kv_element_dtype(kv_dtype: str, *, dtype: torch.dtype) -> torch.dtype:
    """The element type that `engine.kv_dtype` names; auto is `dtype`, that of the model."""
    import torch

    return {"auto": dtype, "int8": torch.int8, "fp8_e4m3": torch.float8_e4m3fn}[kv_dtype]


@dataclass(frozen=True, kw_only=True, slots=True)
class KVGeometry:
    """What one layer's cache is to hold: k and v of type `dtype`, kept as `kv_dtype` (`engine.kv_dtype`).

    With a `latent_dim` it is a row of `head_dim` numbers a token instead, as `AttentionLayer` says.
    """

    num_blocks: int
    kv_heads: int
    block_size: int
    head_dim: int
    dtype: torch.dtype
    kv_dtype: str = "auto"
    latent_dim: int | None = None

    @property
    def element_dtype(self) -> torch.dtype:
        """What a number is kept as."""
        return kv_element_dtype(self.kv_dtype, dtype=self.dtype)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor before it is allocated."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, kw_only=True, slots=True)
class KVCacheSpec:
    """What a `KVCache` consists of."""

    k: TensorSpec
    v: TensorSpec
    k_scales: TensorSpec | None = None
    v_scales: TensorSpec | None = None

    @property
    def nbytes(self) -> int:
        specs = (self.k, self.v, self.k_scales, self.v_scales)
        return sum(spec.nbytes for spec in specs if spec is not None)

    def allocate(self, device: torch.device | str) -> KVCache:
        """The tensors, with whatever was in their memory before."""
        import torch

        def empty(spec: TensorSpec) -> torch.Tensor:
            return torch.empty(spec.shape, dtype=spec.dtype, device=device)

        return KVCache(
            k=empty(self.k),
            v=empty(self.v),
            k_scales=None if self.k_scales is None else empty(self.k_scales),
            v_scales=None if self.v_scales is None else empty(self.v_scales),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentCacheSpec:
    """What a `LatentCache` consists of."""

    rows: TensorSpec

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes

    def allocate(self, device: torch.device | str) -> LatentCache:
        """The tensor, with whatever was in its memory before."""
        import torch

        return LatentCache(rows=torch.empty(self.rows.shape, dtype=self.rows.dtype, device=device))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KVCache:
    """One layer's cache. Dimension 0 of every tensor is the block; the rest is the backend's own layout.

    `k_scales` and `v_scales` are there where elements are of 8 bits: what they are to be multiplied by.
    """

    k: torch.Tensor
    v: torch.Tensor
    k_scales: torch.Tensor | None = None
    v_scales: torch.Tensor | None = None

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All of them: what moves with a block."""
        return tuple(each for each in (self.k, self.v, self.k_scales, self.v_scales) if each is not None)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LatentCache:
    """One layer's cache of latents, a row a token. Dimension 0 is the block; the rest is the backend's."""

    rows: torch.Tensor

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All of them: what moves with a block."""
        return (self.rows,)


LayerCache: TypeAlias = KVCache | LatentCache
"""What a layer keeps, by whether it has a `latent_dim`."""
