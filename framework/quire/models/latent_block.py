"""Multi-head latent attention of one decoder layer, up to its output projection.

DeepSeek-AI, "DeepSeek-V2", 2024, section 2.1. What is cached of a token is a row (c, r): its latent and one
rotated key. Head h would make of them the key (K_h c, r) and the value V_h c. Neither is ever made: with
(q, p) the head's query, without and with rotation,

    q . (K_h c) + p . r  =  (K_h^T q) . c + p . r         the query is projected instead,
    sum of w V_h c       =  V_h (sum of w c)              and so is what comes of the latents.

For a long prompt this is more arithmetic than keys and values would be: a product of kv_rank + rotary_dim
numbers in the place of key_dim + rotary_dim for each pair of tokens, and of kv_rank in that of value_dim.

Suffixes of shapes: T tokens, E hidden size, H heads, K key and U value dimension of a head, R rotated ones, V
numbers of a latent, W = V + R of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from quire.interfaces.kv_cache import LatentCache

if TYPE_CHECKING:
    from quire.interfaces.attention import AttentionBackend, AttentionLayer
    from quire.interfaces.kv_cache import LayerCache
    from quire.interfaces.ops import Ops
    from quire.models.linears import Linears
    from quire.models.spec import DecoderSpec
    from quire.models.weights import Weights
    from quire.runtime.batch import Batch


class LatentBlock:
    """Projections to queries and rows, rotation, attention through the backend.

    The projection of latents to keys and values is held as floats, as a checkpoint's integers stand for them:
    it becomes two products head by head, which no quantisation has.
    """

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
        assert spec.latent is not None
        assert cos_sin_PR is not None
        self._latent = latent = spec.latent
        self._layer = layer
        self._backend = backend
        self._rotary = ops.rotary
        self._cos_sin_PR = cos_sin_PR
        prefix = f"layers.{layer.index}.attention"

        def linear(part: str, *, bias: bool) -> Callable[[torch.Tensor], torch.Tensor]:
            return linears.linear(f"{prefix}.{part}", [f"{prefix}.{part}"], bias=bias)

        def norm(part: str) -> Callable[[torch.Tensor], torch.Tensor]:
            weight = weights.tensor(f"{prefix}.{part}.weight")
            return partial(ops.rms_norm, weight_E=weight, eps=latent.norm_eps)

        if latent.q_rank is None:
            self._queries = linear("q", bias=False)
        else:
            self._queries = _chained(
                linear("q_a", bias=spec.qkv_bias), norm("q_a_norm"), linear("q_b", bias=False)
            )
        self._rows = linear("kv_a", bias=spec.qkv_bias)
        self._row_norm = norm("kv_a_norm")
        kv_b = weights.tensor(f"{prefix}.kv_b.weight").unflatten(0, (layer.heads, -1))
        keys_HKV, values_HUV = kv_b.split_with_sizes((latent.key_dim, latent.value_dim), dim=1)
        self._keys_HKV = keys_HKV.contiguous()
        self._values_HVU = values_HUV.transpose(1, 2).contiguous()
        self._output = linear("o", bias=spec.output_bias)

    def attend(
        self, x_TE: torch.Tensor, batch: Batch, cache: LayerCache, metadata: Any, out_THV: torch.Tensor
    ) -> None:
        """Store this step's rows and write, in latents, what each token attends to into `out_THV`."""
        assert isinstance(cache, LatentCache)
        latent = self._latent
        q_THD = self._queries(x_TE).unflatten(1, (self._layer.heads, -1))
        q_THK, q_THR = q_THD.split_with_sizes((latent.key_dim, latent.rotary_dim), dim=2)
        row_TW = self._rows(x_TE)
        latent_TV, key_TR = row_TW.split_with_sizes((latent.kv_rank, latent.rotary_dim), dim=1)
        self._rotary(
            q_THR, key_TR[:, None], batch.positions_T, self._cos_sin_PR, interleaved=latent.interleaved
        )
        q_HTV = torch.bmm(q_THK.transpose(0, 1), self._keys_HKV)
        q_THW = torch.cat((q_HTV.transpose(0, 1), q_THR), dim=2)
        row_TW = torch.cat((self._row_norm(latent_TV), key_TR), dim=1)
        self._backend.forward_latent(self._layer, q_THW, row_TW, cache, batch, metadata, out_THV)

    def project(self, attended_THV: torch.Tensor) -> torch.Tensor:
        """Values and output projection of any of the rows that `attend` wrote: [T, H, V] -> [T, E]."""
        values_HTU = torch.bmm(attended_THV.transpose(0, 1), self._values_HVU)
        return self._output(values_HTU.transpose(0, 1).flatten(1))


def _chained(*steps: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    def run(x: torch.Tensor) -> torch.Tensor:
        for step in steps:
            x = step(x)
        return x

    return run
