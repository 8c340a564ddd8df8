"""Self-attention of one decoder layer, up to its output projection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quire.interfaces.attention import HeadTransform
from quire.interfaces.kv_cache import KVCache
from quire.models.layout import qkv_parts

if TYPE_CHECKING:
    import torch

    from quire.interfaces.attention import AttentionBackend, AttentionLayer
    from quire.interfaces.kv_cache import LayerCache
    from quire.interfaces.ops import Ops
    from quire.models.linears import Linears
    from quire.models.spec import DecoderSpec
    from quire.models.weights import Weights
    from quire.runtime.batch import Batch


class AttentionBlock:
    """Joint q, k, v projection, norms of the heads, rotation, attention through the backend."""

    def __init__(
        self,
        *,
        spec: DecoderSpec,
        layer: AttentionLayer,
        cos_sin_PR: torch.Tensor | None,
        weights: Weights,
        linears: Linears,
        ops: Ops,
        backend: AttentionBackend,
    ) -> None:
        prefix = f"layers.{layer.index}.attention"
        parts = [f"{prefix}.{part}" for part in qkv_parts(spec)]
        self._layer = layer
        self._backend = backend
        self._grouped = spec.grouped_qkv
        self._clip = spec.qkv_clip
        self._split = (layer.heads, layer.kv_heads, layer.kv_heads)
        self._qkv_shape = (-1, sum(self._split), layer.head_dim)
        if self._grouped:
            self._split = (layer.heads // layer.kv_heads, 1, 1)
            self._qkv_shape = (-1, layer.kv_heads, sum(self._split), layer.head_dim)
        self._qkv = linears.linear(f"{prefix}.qkv", parts, bias=spec.qkv_bias)
        self._output = linears.linear(f"{prefix}.o", [f"{prefix}.o"], bias=spec.output_bias)
        self._heads = HeadTransform(
            ops=ops,
            cos_sin_PR=cos_sin_PR,
            q_norm_D=weights.tensor(f"{prefix}.q_norm.weight") if spec.qk_norm else None,
            k_norm_D=weights.tensor(f"{prefix}.k_norm.weight") if spec.qk_norm else None,
            eps=spec.norm_eps,
            unit_offset=spec.unit_offset_norms,
        )

    def attend(
        self, x_TE: torch.Tensor, batch: Batch, cache: LayerCache, metadata: Any, out_THD: torch.Tensor
    ) -> None:
        """Store this step's keys and values and write what each token attends to into `out_THD`."""
        assert isinstance(cache, KVCache)
        qkv = self._qkv(x_TE).view(self._qkv_shape)
        if self._clip is not None:
            qkv.clamp_(-self._clip, self._clip)
        q_THD, k_TKD, v_TKD = qkv.split_with_sizes(self._split, dim=-2)
        if self._grouped:
            q_THD, k_TKD, v_TKD = q_THD.flatten(1, 2), k_TKD.flatten(1, 2), v_TKD.flatten(1, 2)
        self._backend.forward_projected(
            self._layer, self._heads, q_THD, k_TKD, v_TKD, cache, batch, metadata, out_THD
        )

    def project(self, attended_THD: torch.Tensor) -> torch.Tensor:
        """The output projection of any of the rows that `attend` wrote: [T, H, D] -> [T, E]."""
        return self._output(attended_THD.flatten(1))
