"""The native decoder: every family's layers from one description.

hidden   what the last block computed and nobody has added to the residual stream yet
residual the stream; the next norm adds `hidden` to it on the way, which saves a pass over memory
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from quire.models.attention_block import AttentionBlock
from quire.models.latent_block import LatentBlock
from quire.models.mlp import Mlp, UngatedMlp
from quire.models.model import Model, ModelInfo
from quire.models.moe import Moe
from quire.models.norm import load_norm
from quire.models.rope import Rope, cos_sin_table

if TYPE_CHECKING:
    from quire.interfaces.attention import AttentionBackend, AttentionLayer
    from quire.interfaces.kv_cache import LayerCache
    from quire.interfaces.ops import Head, Ops
    from quire.models.linears import Linears
    from quire.models.spec import DecoderSpec
    from quire.models.weights import Weights
    from quire.runtime.batch import Batch


class DecoderLayer:
    """Attention and feed-forward with their norms."""

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
        prefix = f"layers.{layer.index}"
        moe = spec.layers[layer.index].moe
        block = AttentionBlock if layer.latent_dim is None else LatentBlock
        self.attention = block(
            spec=spec,
            layer=layer,
            cos_sin_PR=cos_sin_PR,
            weights=weights,
            linears=linears,
            ops=ops,
            backend=backend,
        )
        self.mlp = (
            _mlp(spec, f"{prefix}.mlp", linears, ops)
            if moe is None
            else Moe(spec=spec, moe=moe, prefix=f"{prefix}.mlp", weights=weights, linears=linears, ops=ops)
        )
        norm = partial(load_norm, spec=spec, weights=weights, ops=ops)
        self.attention_norm = norm(f"{prefix}.attention.norm")
        self.mlp_norm = self.attention_norm if spec.shared_norm else norm(f"{prefix}.mlp.norm")
        self.attention_post_norm = self.mlp_post_norm = None
        if spec.post_norms:
            self.attention_post_norm = norm(f"{prefix}.attention.post_norm")
            self.mlp_post_norm = norm(f"{prefix}.mlp.post_norm")
        self._parallel = spec.parallel

    def finish(self, attended_THD: torch.Tensor, residual_TE: torch.Tensor) -> torch.Tensor:
        """All that follows attention, which concerns each row alone: the layer's own hidden states."""
        hidden = self.attention.project(attended_THD)
        if self.attention_post_norm is not None:
            hidden = self.attention_post_norm(hidden)
        if self._parallel:
            return hidden + self.mlp(self.mlp_norm(residual_TE))
        hidden = self.mlp(self.mlp_norm(hidden, residual_TE=residual_TE))
        return hidden if self.mlp_post_norm is None else self.mlp_post_norm(hidden)


def _mlp(spec: DecoderSpec, prefix: str, linears: Linears, ops: Ops) -> Mlp | UngatedMlp:
    if spec.ungated is None:
        return Mlp(spec=spec, prefix=prefix, linears=linears, ops=ops)
    return UngatedMlp(spec=spec, function=spec.ungated, prefix=prefix, linears=linears)


class Decoder(Model):
    """Token ids to hidden states and logits."""

    def __init__(
        self,
        *,
        spec: DecoderSpec,
        info: ModelInfo,
        layers: tuple[AttentionLayer, ...],
        weights: Weights,
        linears: Linears,
        ops: Ops,
        backend: AttentionBackend,
        device: str,
    ) -> None:
        """Reads the weights in the order of use, each packed before the next is read."""
        self.info = info
        self.layers = layers
        self._logit_softcap = spec.logit_softcap
        self._routes = any(layer.moe is not None for layer in spec.layers)
        self.dtype = weights.dtype
        self._head: Head | None = None
        self._embed = self._load_embedding(spec, weights, linears)
        # Rounded as the table is: the checkpoint was trained with the factor in its own type.
        self._embedding_scale = (
            None
            if spec.embedding_scale is None
            else torch.tensor(spec.embedding_scale, dtype=self.dtype).item()
        )
        norm = partial(load_norm, spec=spec, weights=weights, ops=ops)
        self._embedding_norm = norm("embedding.norm") if spec.embedding_norm else None
        tables: dict[Rope | None, torch.Tensor] = {
            rope: cos_sin_table(rope, tokens=info.max_tokens, device=device)
            for rope in dict.fromkeys(layer.rope for layer in spec.layers)
            if rope is not None
        }
        self._blocks: list[DecoderLayer] = []
        for layer in layers:
            self._blocks.append(
                DecoderLayer(
                    spec=spec,
                    layer=layer,
                    cos_sin_PR=tables.get(spec.layers[layer.index].rope),
                    weights=weights,
                    linears=linears,
                    ops=ops,
                    backend=backend,
                )
            )
            weights.close()
        self.uncapturable = next(filter(None, (block.mlp.uncapturable for block in self._blocks)), None)
        self._norm = norm("norm")
        if spec.head and not spec.tied_embeddings:
            self._head = linears.head("head", vocab_size=spec.vocab_size)
        linears.check_skip()
        weights.close()

    def _load_embedding(
        self, spec: DecoderSpec, weights: Weights, linears: Linears
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """Token ids [T] -> [T, E]. Where the output head is the same table, it is held once."""
        if not (spec.head and spec.tied_embeddings):
            return partial(functional.embedding, weight=weights.tensor("embedding.weight"))
        self._head = linears.head("embedding", vocab_size=spec.vocab_size)
        return self._head.embed

    def forward(self, batch: Batch, caches: tuple[LayerCache, ...], metadata: Any) -> torch.Tensor:
        residual = self._embed(batch.token_ids_T)
        if self._embedding_scale is not None:
            residual.mul_(self._embedding_scale)
        if self._embedding_norm is not None:
            residual = self._embedding_norm(residual)
        first = self.layers[0]
        # Rows that only fill up a graph are not attended. Left at zero, all go to the experts of one token.
        allocate = residual.new_zeros if self._routes else residual.new_empty
        attended_THD = allocate((batch.num_tokens, first.heads, first.value_dim))
        hidden = None
        last = self._blocks[-1]
        for block, cache in zip(self._blocks, caches, strict=True):
            if hidden is None:
                x_TE = block.attention_norm(residual)
            else:
                x_TE = block.attention_norm(hidden, residual_TE=residual)
            block.attention.attend(x_TE, batch, cache, metadata, attended_THD)
            if block is last:  # beyond here rows no longer meet: only those that sample go on
                attended_THD = attended_THD.index_select(0, batch.logit_rows_R)
                residual = residual.index_select(0, batch.logit_rows_R)
                if residual.shape[0] == 0:
                    return residual
            hidden = block.finish(attended_THD, residual)
        return self._norm(hidden, residual_TE=residual)

    def logits(self, hidden_RE: torch.Tensor) -> torch.Tensor:
        assert self._head is not None, "a decoder loaded for its hidden states has no logits"
        logits_RV = self._head.logits(hidden_RE)
        if self._logit_softcap is not None:
            logits_RV = (logits_RV / self._logit_softcap).tanh_().mul_(self._logit_softcap)
        return logits_RV
