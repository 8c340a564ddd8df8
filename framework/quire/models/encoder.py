"""The native encoder: BERT, RoBERTa, XLM-R, MiniLM and ModernBERT from one description.

All but attention runs on packed tokens. Past the last attention only the rows that are asked for go on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from quire.models.encoder_layout import has_attention_norm, qkv_names
from quire.models.encoder_spec import EncoderSpec, Pooling
from quire.models.packed_attention import Reach, attend
from quire.models.rope import Rope, cos_sin_table
from quire.models.text_model import TextModel
from quire.models.unary import function_of

if TYPE_CHECKING:
    from quire.interfaces.ops import Ops
    from quire.models.model import ModelInfo
    from quire.models.packed_texts import PackedTexts
    from quire.models.weights import Weights

Function = Callable[[torch.Tensor], torch.Tensor]


class Encoder(TextModel):
    """Token ids to hidden states."""

    causal = False

    def __init__(
        self, *, spec: EncoderSpec, info: ModelInfo, weights: Weights, ops: Ops, device: torch.device
    ) -> None:
        """Reads the weights in the order of use, each packed before the next is read."""
        self.info = info
        self.hidden_size = spec.hidden_size
        self.device = device
        self.token_types = spec.token_types
        parts = Parts(spec=spec, weights=weights, ops=ops)
        self._first_position = spec.first_position
        self._tokens_VE = weights.tensor("embedding.weight")
        self._positions_PE = weights.tensor("embedding.positions.weight") if spec.position_rows else None
        self._types_YE = weights.tensor("embedding.types.weight") if spec.token_types else None
        self._norm = parts.norm("embedding.norm")
        tables: dict[Rope, torch.Tensor] = {
            rope: cos_sin_table(rope, tokens=info.max_tokens, device=str(device))
            for rope in dict.fromkeys(layer.rope for layer in spec.layers)
            if rope is not None
        }
        self._layers: list[EncoderLayer] = []
        for index, layer in enumerate(spec.layers):
            table_PR = None if layer.rope is None else tables[layer.rope]
            self._layers.append(EncoderLayer(parts=parts, index=index, cos_sin_PR=table_PR, ops=ops))
            weights.close()
        self._final_norm = parts.norm("norm") if spec.pre_norm else None
        self.head = None if spec.head is None else Head(parts=parts, pooling=spec.head.pooling)
        weights.close()

    def states(self, texts: PackedTexts, rows_R: torch.Tensor) -> torch.Tensor:
        x_TE = functional.embedding(texts.token_ids_T, self._tokens_VE)
        if self._positions_PE is not None:
            x_TE += functional.embedding(texts.positions_T + self._first_position, self._positions_PE)
        if self._types_YE is not None:
            x_TE += (
                self._types_YE[0]
                if texts.type_ids_T is None
                else functional.embedding(texts.type_ids_T, self._types_YE)
            )
        x_TE = self._norm(x_TE)
        for layer in self._layers[:-1]:
            x_TE = layer.finish(layer.attend(x_TE, texts), x_TE)
        last = self._layers[-1]
        every = rows_R.shape[0] == texts.num_tokens  # then they are all tokens in order
        attended_TE = last.attend(x_TE, texts)
        if not every:
            attended_TE, x_TE = attended_TE.index_select(0, rows_R), x_TE.index_select(0, rows_R)
        x_RE = last.finish(attended_TE, x_TE)
        return x_RE if self._final_norm is None else self._final_norm(x_RE)


class Parts:
    """Layers' parts made from weights, by the name of their tensors."""

    def __init__(self, *, spec: EncoderSpec, weights: Weights, ops: Ops) -> None:
        self.spec = spec
        self._weights = weights
        self._ops = ops

    def linear(self, *names: str, bias: bool) -> Function:
        """One product for tensors that follow each other."""
        return self._ops.linear(
            self._weights.stacked(*(f"{name}.weight" for name in names)),
            self._weights.stacked(*(f"{name}.bias" for name in names)) if bias else None,
        )

    def norm(self, name: str) -> Function:
        """Layer norm (Ba et al., 2016) over the hidden dimension."""
        return partial(
            functional.layer_norm,
            normalized_shape=(self.spec.hidden_size,),
            weight=self._weights.tensor(f"{name}.weight"),
            bias=self._weights.tensor(f"{name}.bias") if self.spec.norm_bias else None,
            eps=self.spec.norm_eps,
        )


class EncoderLayer:
    """Attention and feed-forward with their norms."""

    def __init__(self, *, parts: Parts, index: int, cos_sin_PR: torch.Tensor | None, ops: Ops) -> None:
        spec = parts.spec
        prefix = f"layers.{index}"
        names = (f"{prefix}.attention.{name}" for name in qkv_names(spec))
        self._pre_norm, self._gated = spec.pre_norm, spec.gated
        self._shape = (-1, 3 * spec.heads, spec.head_dim)
        self._reach = Reach(back=spec.layers[index].reach, ahead=spec.layers[index].reach)
        self._rotary, self._cos_sin_PR = ops.rotary, cos_sin_PR
        self._qkv = parts.linear(*names, bias=spec.attention_bias)
        self._output = parts.linear(f"{prefix}.attention.o", bias=spec.attention_bias)
        has_norm = has_attention_norm(spec, index)
        self._attention_norm: Function | None = parts.norm(f"{prefix}.attention.norm") if has_norm else None
        self._activation = function_of(spec.activation)
        self._up = parts.linear(f"{prefix}.mlp.up", bias=spec.mlp_bias)
        self._down = parts.linear(f"{prefix}.mlp.down", bias=spec.mlp_bias)
        self._mlp_norm = parts.norm(f"{prefix}.mlp.norm")

    def attend(self, x_TE: torch.Tensor, texts: PackedTexts) -> torch.Tensor:
        """What each token attends to, before the output projection: [T, E]."""
        if self._pre_norm and self._attention_norm is not None:
            x_TE = self._attention_norm(x_TE)
        q_THD, k_THD, v_THD = self._qkv(x_TE).view(self._shape).chunk(3, dim=1)
        if self._cos_sin_PR is not None:
            self._rotary(q_THD, k_THD, texts.positions_T, self._cos_sin_PR)
        out_THD = x_TE.new_empty(q_THD.shape)
        scale = q_THD.shape[-1] ** -0.5
        attend(q_THD, k_THD, v_THD, texts.groups, out_THD, scale=scale, reach=self._reach)
        return out_THD.flatten(1)

    def finish(self, attended_RE: torch.Tensor, x_RE: torch.Tensor) -> torch.Tensor:
        """All that follows attention, which concerns each row alone."""
        x_RE = x_RE + self._output(attended_RE)
        if self._pre_norm:
            return x_RE + self._mlp(self._mlp_norm(x_RE))
        assert self._attention_norm is not None
        x_RE = self._attention_norm(x_RE)
        return self._mlp_norm(x_RE + self._mlp(x_RE))

    def _mlp(self, x_RE: torch.Tensor) -> torch.Tensor:
        up = self._up(x_RE)
        if not self._gated:
            return self._down(self._activation(up))
        a_RI, b_RI = up.chunk(2, dim=-1)
        return self._down(self._activation(a_RI) * b_RI)


class Head:
    """Logits of pooled hidden states: [R, E] -> [R, labels], float32."""

    def __init__(self, *, parts: Parts, pooling: Pooling) -> None:
        spec = parts.spec.head
        assert spec is not None
        self.pooling = pooling
        self.labels = spec.labels
        self._activation = function_of(spec.activation)
        self._dense = parts.linear("head.dense", bias=spec.dense_bias)
        self._norm = parts.norm("head.norm") if spec.norm else None
        self._out = parts.linear("head.out", bias=True)

    def __call__(self, pooled_RE: torch.Tensor) -> torch.Tensor:
        x_RE = self._activation(self._dense(pooled_RE))
        return self._out(x_RE if self._norm is None else self._norm(x_RE)).float()
