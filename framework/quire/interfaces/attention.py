"""The attention backend stores keys and values, and attends to them through block tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from quire.runtime.batch import Batch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AttentionLayer:
    """What is constant about one layer's attention.

    `group` is the index of its KV group; `window`, `softcap` and `sinks_H` mean what `quire_kernels` says.
    """

    index: int
    group: int
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks_H: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KVCache:
    """One layer's cache. Dimension 0 of both tensors is the block; the rest is the backend's own layout."""

    k: torch.Tensor
    v: torch.Tensor


class AttentionBackend(ABC):
    """PagedAttention and its relatives. It keeps nothing from step to step but its options.

    Constructed with `config` and `device` ("cpu" or "cuda"); raises MissingCapability there if it cannot run.
    """

    Config: type[Any]

    devices: frozenset[str] = frozenset({"cpu", "cuda"})
    """Device types it runs on."""
    dtypes: frozenset[str] = frozenset({"float32", "float16", "bfloat16"})
    """Element types of q, k, v and the cache."""
    block_sizes: tuple[int, ...] = (16, 32, 64, 128)
    """Tokens per block that it can read."""
    preferred_block_size: int = 16
    """The one to take where the user names none."""
    supports_sinks: bool = True
    supports_softcap: bool = True

    @classmethod
    def block_size_on(cls, device: str) -> int:
        """What `preferred_block_size` is on that device; asked without making the backend."""
        del device
        return cls.preferred_block_size

    @abstractmethod
    def kv_cache_shapes(
        self, *, num_blocks: int, kv_heads: int, block_size: int, head_dim: int, dtype: torch.dtype
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of one layer's K and V tensors; dimension 0 is the block. Called once at start."""

    @abstractmethod
    def prepare(self, batch: Batch, layers: tuple[AttentionLayer, ...]) -> Any:
        """Metadata of this step, shared by all layers. Called by the runner once a step, before the model.

        `layers[g]` is a layer of KV group g: what is constant within the group.
        """

    @abstractmethod
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
        """Store k and v at the batch's slots, attend, write `out_THD`. Called by each layer of the model.

        q, k and v are rotated already and may be strided slices of one tensor; `out_THD` is contiguous.
        """
