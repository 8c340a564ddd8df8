"""The attention backend stores keys and values, and attends to them through block tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from quire.interfaces.kv_cache import KVCache, KVCacheSpec, KVGeometry, LatentCache, LatentCacheSpec
    from quire.interfaces.ops import Ops
    from quire.runtime.batch import Batch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AttentionLayer:
    """What is constant about one layer's attention.

    `group` is the index of its KV group; `window`, `softcap`, `alibi_slopes_H` and `sinks_H` mean what
    `quire_kernels` says. In multi-head latent attention `latent_dim` says that all heads share one row of
    `head_dim` numbers a token (`kv_heads` is 1), of which the first `latent_dim` are its value.
    """

    index: int
    group: int
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    window: int | None = None
    softcap: float | None = None
    alibi_slopes_H: torch.Tensor | None = None
    sinks_H: torch.Tensor | None = None
    latent_dim: int | None = None

    @property
    def value_dim(self) -> int:
        """Numbers of a head's output."""
        return self.head_dim if self.latent_dim is None else self.latent_dim


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeadTransform:
    """What becomes of one layer's queries and keys between their projection and attention.

    Norms of the single heads where the model has them (else both weights are None), of `ops.rms_norm` with
    `eps` and `unit_offset`; then `ops.rotary` by `cos_sin_PR`, if there is one.
    """

    ops: Ops
    cos_sin_PR: torch.Tensor | None
    q_norm_D: torch.Tensor | None = None
    k_norm_D: torch.Tensor | None = None
    eps: float
    unit_offset: bool

    def apply(
        self, q_THD: torch.Tensor, k_TKD: torch.Tensor, positions_T: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both, as attention takes them. What was given may be changed."""
        if self.q_norm_D is not None and self.k_norm_D is not None:
            q_THD, k_TKD = (
                self.ops.rms_norm(x, weight_D, eps=self.eps, unit_offset=self.unit_offset)
                for x, weight_D in ((q_THD, self.q_norm_D), (k_TKD, self.k_norm_D))
            )
        if self.cos_sin_PR is not None:
            self.ops.rotary(q_THD, k_TKD, positions_T, self.cos_sin_PR)
        return q_THD, k_TKD


class AttentionBackend(ABC):
    """PagedAttention and its relatives. It keeps nothing from step to step but its options.

    Constructed with `config` and `device` ("cpu" or "cuda"); raises MissingCapability there if it cannot run.
    """

    Config: type[Any]

    devices: frozenset[str] = frozenset({"cpu", "cuda"})
    """Device types it runs on."""
    dtypes: frozenset[str] = frozenset({"float32", "float16", "bfloat16"})
    """Element types of q, k and v."""
    kv_dtypes: frozenset[str] = frozenset({"auto"})
    """Values of `engine.kv_dtype` that it can keep keys and values in: auto is the type of k and v."""
    block_sizes: tuple[int, ...] = (16, 32, 64, 128)
    """Tokens per block that it can read."""
    preferred_block_size: int = 16
    """The one to take where the user names none."""
    supports_sinks: bool = True
    supports_softcap: bool = True
    supports_alibi: bool = False
    """Said by those that have it: one that has never heard of it would leave it out unnoticed."""
    supports_latents: bool = False
    """Whether it has `latent_cache_spec` and `forward_latent`, for multi-head latent attention."""
    latent_kv_dtypes: frozenset[str] = frozenset({"auto"})
    """As `kv_dtypes`, for the rows of latents."""
    capturable: bool = False
    """Whether decoding steps can be replayed from CUDA graphs: what `prepare` makes of a step of one token a
    sequence serves any such step of as many sequences, none of them longer; `forward` asks the device
    nothing; and it leaves alone tokens that no sequence has, whose slots are negative.
    """

    @classmethod
    def block_size_on(cls, device: str) -> int:
        """What `preferred_block_size` is on that device; asked without making the backend."""
        del device
        return cls.preferred_block_size

    @abstractmethod
    def kv_cache_spec(self, geometry: KVGeometry) -> KVCacheSpec:
        """One layer's cache; `geometry.kv_dtype` is one of `kv_dtypes`.

        Called at start, to allocate it and to learn what a block takes; `forward` reads the choice off the
        cache that it gets.
        """

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
        """Store k and v at the batch's slots, attend, write `out_THD`. Called for each layer: by
        `forward_projected`, and by models of transformers, which rotate by themselves.

        q, k and v are rotated already and may be strided slices of one tensor; `out_THD` is contiguous.
        """

    def forward_projected(
        self,
        layer: AttentionLayer,
        heads: HeadTransform,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        cache: KVCache,
        batch: Batch,
        metadata: Any,
        out_THD: torch.Tensor,
    ) -> None:
        """`forward` of q and k as the projection leaves them; they may be changed. Called by each layer of a
        native decoder. A backend that can transform them on the way to its cache saves some launches.
        """
        q_THD, k_TKD = heads.apply(q_THD, k_TKD, batch.positions_T)
        self.forward(layer, q_THD, k_TKD, v_TKD, cache, batch, metadata, out_THD)

    def latent_cache_spec(self, geometry: KVGeometry) -> LatentCacheSpec:
        """One layer's cache of latents; `geometry` has a `latent_dim` and one of `latent_kv_dtypes`.

        Called as `kv_cache_spec`, for layers with a `latent_dim`, where `supports_latents` is true.
        """
        raise NotImplementedError

    def forward_latent(
        self,
        layer: AttentionLayer,
        q_THW: torch.Tensor,
        rows_TW: torch.Tensor,
        cache: LatentCache,
        batch: Batch,
        metadata: Any,
        out_THV: torch.Tensor,
    ) -> None:
        """Store a row a token at the batch's slots, attend to the rows, write `out_THV` (contiguous).

        A row is a token's latent, of V = `layer.latent_dim` numbers, and behind it the rotated key that all
        heads share. The projections that would make keys and values of latents are absorbed: that of keys is
        in q already, that of values will be applied to the output (DeepSeek-AI, "DeepSeek-V2", 2024, section
        2.1). Such a layer has no window, cap, bias or sinks.

        Called for each layer with a `latent_dim`, where `supports_latents` is true.
        """
        raise NotImplementedError
