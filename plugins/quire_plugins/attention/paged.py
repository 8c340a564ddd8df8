"""PagedAttention (Kwon et al., "Efficient Memory Management for Large Language Model Serving with
PagedAttention", SOSP 2023): Triton kernels on a GPU, their C++ twin on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quire.errors import MissingCapability
from quire.interfaces.attention import AttentionBackend, AttentionLayer, HeadTransform
from quire.interfaces.kv_cache import (
    KVCache,
    KVCacheSpec,
    KVGeometry,
    LatentCache,
    LatentCacheSpec,
    TensorSpec,
)
from quire_plugins.attention.gpu import check_gpu
from quire_plugins.attention.latents import attend_rows, latent_cache_spec, latent_parts, store_rows
from quire_plugins.attention.refusals import refused_by

if TYPE_CHECKING:
    import torch

    from quire.runtime.batch import Batch


@dataclass
class PagedConfig:
    """It has no options."""


class PagedAttention(AttentionBackend):
    """Attention through block tables: Triton on a GPU, C++ on a CPU."""

    Config = PagedConfig
    kv_dtypes = frozenset({"auto", "int8", "fp8_e4m3"})
    supports_alibi = True
    supports_latents = True

    def __init__(self, *, config: PagedConfig, device: str) -> None:
        del config
        if device == "cuda":
            from quire_kernels import triton as kernels

            check_gpu("paged")
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
        self._on_cpu = device == "cpu"
        self.capturable = not self._on_cpu

    @classmethod
    def block_size_on(cls, device: str) -> int:
        return 64 if device == "cpu" else cls.preferred_block_size

    def kv_cache_spec(self, geometry: KVGeometry) -> KVCacheSpec:
        import torch

        with refused_by("paged"):
            k, v = self._kernels.kv_cache_shapes(
                geometry.num_blocks,
                geometry.kv_heads,
                geometry.block_size,
                geometry.head_dim,
                geometry.dtype,
            )
        element = geometry.element_dtype
        scales = None
        if geometry.kv_dtype != "auto":
            shape = (geometry.num_blocks, geometry.kv_heads, geometry.block_size)
            scales = TensorSpec(shape, torch.float32)
        return KVCacheSpec(
            k=TensorSpec(k, element), v=TensorSpec(v, element), k_scales=scales, v_scales=scales
        )

    def prepare(self, batch: Batch, layers: tuple[AttentionLayer, ...]) -> tuple[Any, ...]:
        """One plan of work for each KV group."""
        return tuple(self._plan(batch, layer) for layer in layers)

    def _plan(self, batch: Batch, layer: AttentionLayer) -> Any:
        if layer.latent_dim is not None and self._on_cpu:
            return latent_parts(batch, layer.group)
        return self._kernels.plan_attention(
            batch.host_query_starts_S1,
            batch.host_seq_lens_S,
            heads=layer.heads,
            kv_heads=layer.kv_heads,
            block_size=batch.block_size,
            window=layer.window,
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
        self._kernels.store_kv(
            k_TKD,
            v_TKD,
            cache.k,
            cache.v,
            batch.slots_GT[layer.group],
            k_scales_NKB=cache.k_scales,
            v_scales_NKB=cache.v_scales,
        )
        self._attend(layer, q_THD, cache, batch, metadata, out_THD)

    def forward_projected(
        self,
        layer: AttentionLayer,
        heads: HeadTransform,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        cache: KVCache,
        batch: Batch,
        metadata: tuple[Any, ...],
        out_THD: torch.Tensor,
    ) -> None:
        """On a GPU norms, rotation and store are one launch; on a CPU, where a call costs little, three, and
        where nothing turns.
        """
        if self._on_cpu or heads.cos_sin_PR is None:
            super().forward_projected(layer, heads, q_THD, k_TKD, v_TKD, cache, batch, metadata, out_THD)
            return
        self._kernels.rotate_store_kv(
            q_THD,
            k_TKD,
            v_TKD,
            cache.k,
            cache.v,
            batch.slots_GT[layer.group],
            batch.positions_T,
            heads.cos_sin_PR,
            q_norm_D=heads.q_norm_D,
            k_norm_D=heads.k_norm_D,
            eps=heads.eps,
            unit_offset=heads.unit_offset,
            k_scales_NKB=cache.k_scales,
            v_scales_NKB=cache.v_scales,
        )
        self._attend(layer, q_THD, cache, batch, metadata, out_THD)

    def latent_cache_spec(self, geometry: KVGeometry) -> LatentCacheSpec:
        if self._on_cpu:
            return latent_cache_spec(geometry)
        assert geometry.latent_dim is not None
        with refused_by("paged"):
            shape = self._kernels.latent_cache_shape(
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
        q_THW: torch.Tensor,
        rows_TW: torch.Tensor,
        cache: LatentCache,
        batch: Batch,
        metadata: tuple[Any, ...],
        out_THV: torch.Tensor,
    ) -> None:
        """On a CPU in plain torch: the C++ kernel would need keys and values apart."""
        slots_T, plan = batch.slots_GT[layer.group], metadata[layer.group]
        if self._on_cpu:
            store_rows(rows_TW, cache.rows, slots_T)
            attend_rows(q_THW, cache.rows, plan, out_THV, scale=layer.scale)
            return
        self._kernels.store_latents(rows_TW, cache.rows, slots_T)
        self._kernels.mla_decode(
            q_THW,
            cache.rows,
            batch.tables_GSM[layer.group],
            batch.query_starts_S1,
            batch.seq_lens_S,
            out_THV,
            scale=layer.scale,
            plan=plan,
        )

    def _attend(
        self,
        layer: AttentionLayer,
        q_THD: torch.Tensor,
        cache: KVCache,
        batch: Batch,
        metadata: tuple[Any, ...],
        out_THD: torch.Tensor,
    ) -> None:
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
            alibi_slopes_H=layer.alibi_slopes_H,
            sinks_H=layer.sinks_H,
            k_scales_NKB=cache.k_scales,
            v_scales_NKB=cache.v_scales,
            plan=metadata[layer.group],
        )
