"""PagedAttention (Kwon et al., "Efficient Memory Management for Large Language Model Serving with
PagedAttention", SOSP 2023): Triton kernels on a GPU, their C++ twin on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quire.errors import MissingCapability
from quire.interfaces.attention import AttentionBackend, AttentionLayer, KVCache

if TYPE_CHECKING:
    import torch

    from quire.runtime.batch import Batch


@dataclass
class PagedConfig:
    """It has no options."""


class PagedAttention(AttentionBackend):
    """Attention through block tables: Triton on a GPU, C++ on a CPU."""

    Config = PagedConfig

    def __init__(self, *, config: PagedConfig, device: str) -> None:
        del config
        if device == "cuda":
            from quire_kernels import triton as kernels
        elif device == "cpu":
            from quire_kernels import cpu as kernels

            try:
                kernels.load_kernels()
            except kernels.KernelBuildError as error:
                raise MissingCapability(f"attention=paged on a CPU: {error}") from None
            self.dtypes = frozenset({"float32", "bfloat16"})
        else:
            raise MissingCapability(f"attention=paged: device={device} has no kernels; cpu and cuda have")
        self.preferred_block_size = self.block_size_on(device)
        self._kernels = kernels

    @classmethod
    def block_size_on(cls, device: str) -> int:
        return 64 if device == "cpu" else cls.preferred_block_size

    def kv_cache_shapes(
        self, *, num_blocks: int, kv_heads: int, block_size: int, head_dim: int, dtype: torch.dtype
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        try:
            return self._kernels.kv_cache_shapes(num_blocks, kv_heads, block_size, head_dim, dtype)
        except ValueError as error:
            raise MissingCapability(f"attention=paged: {error}; attention=sdpa takes any") from None

    def prepare(self, batch: Batch, layers: tuple[AttentionLayer, ...]) -> tuple[Any, ...]:
        """One plan of work for each KV group."""
        return tuple(
            self._kernels.plan_attention(
                batch.host_query_starts_S1,
                batch.host_seq_lens_S,
                heads=layer.heads,
                kv_heads=layer.kv_heads,
                block_size=batch.block_size,
                window=layer.window,
            )
            for layer in layers
        )

    def forward(
        self,
        layer: AttentionLayer,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        cache: KVCache,
        batch: Batch,
        metadata: tuple[Any, ...],
        out_THD: torch.Tensor,
    ) -> None:
        self._kernels.store_kv(k_TKD, v_TKD, cache.k, cache.v, batch.slots_GT[layer.group])
        self._kernels.paged_attention(
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
            sinks_H=layer.sinks_H,
            plan=metadata[layer.group],
        )
