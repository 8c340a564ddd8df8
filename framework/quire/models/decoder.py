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
from quire.models.mlp import Mlp
from quire.models.model import Model, ModelInfo
from quire.models.moe import Moe
from quire.models.norm import load_norm
from quire.models.rope import Rope, cos_sin_table

if TYPE_CHECKING:
    from quire.interfaces.attention import AttentionBackend, AttentionLayer, KVCache
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
        cos_sin_PR: torch.Tensor,
        weights: Weights,
        linears: Linears,
        ops: Ops,
        backend: AttentionBackend,
    ) -> None:
        prefix = f"layers.{layer.index}"
        moe = spec.layers[layer.index].moe
        self.attention = AttentionBlock(
            spec=spec,
            layer=layer,
            cos_sin_PR=cos_sin_PR,
            weights=weights,
            linears=linears,
            ops=ops,
            backend=backend,
        )
        self.mlp = (
            Mlp(spec=spec, prefix=f"{prefix}.mlp", linears=linears, ops=ops)
            if moe is None
            else Moe(spec=spec, moe=moe, prefix=f"{prefix}.mlp", weights=weights, linears=linears, ops=ops)
        )
        self.attention_norm, self.mlp_norm = (
            load_norm(f"{prefix}.{block}.norm.weight", spec=spec, weights=weights, ops=ops)
            for block in ("attention", "mlp")
        )
        self.attention_post_norm = self.mlp_post_norm = None
        if spec.post_norms:
            self.attention_post_norm, self.mlp_post_norm = (
                load_norm(f"{prefix}.{block}.post_norm.weight", spec=spec, weights=weights, ops=ops)
                for block in ("attention", "mlp")
            )

    def finish(self, attended_THD: torch.Tensor, residual_TE: torch.Tensor) -> torch.Tensor:
        """All that follows attention, which concerns each row alone: the layer's own hidden states."""
        hidden = self.attention.project(attended_THD)
        if self.attention_post_norm is not None:
            hidden = self.attention_post_norm(hidden)
        hidden = self.mlp(self.mlp_norm(hidden, residual_TE=residual_TE))
        return hidden if self.mlp_post_norm is None else self.mlp_post_norm(hidden)


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
        self.dtype = weights.dtype
        # Experts are chosen as the step runs; most ways to multiply by them ask how many tokens each has.
        self.capturable = all(layer.moe is None for layer in spec.layers)
        self._head: Head | None = None
        self._embed = self._load_embedding(spec, weights, linears)
        # Rounded as the table is: the checkpoint was trained with the factor in its own type.
        self._embedding_scale = (
            None
            if spec.embedding_scale is None
            else torch.tensor(spec.embedding_scale, dtype=self.dtype).item()
        )
        tables: dict[Rope, torch.Tensor] = {
            layer.rope: cos_sin_table(layer.rope, tokens=info.max_tokens, device=device)
            for layer in spec.layers
        }
        self._blocks: list[DecoderLayer] = []
        for layer in layers:
            self._blocks.append(
                DecoderLayer(
                    spec=spec,
                    layer=layer,
                    cos_sin_PR=tables[spec.layers[layer.index].rope],
                    weights=weights,
                    linears=linears,
                    ops=ops,
                    backend=backend,
                )
            )
            weights.close()
        self._norm = load_norm("norm.weight", spec=spec, weights=weights, ops=ops)
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

    def forward(self, batch: Batch, caches: tuple[KVCache, ...], metadata: Any) -> torch.Tensor:
        residual = self._embed(batch.token_ids_T)
        if self._embedding_scale is not None:
            residual.mul_(self._embedding_scale)
        first = self.layers[0]
        attended_THD = residual.new_empty((batch.num_tokens, first.heads, first.head_dim))
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
