"""BLOOM (BigScience Workshop, 2022): ALiBi in the place of positions, and a norm after the embedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quire.interfaces.architecture import Architecture
from quire.models.alibi import Alibi, paper_slopes
from quire.models.fields import Fields
from quire.models.spec import DecoderSpec, LayerSpec
from quire.models.unary import Unary
from quire_plugins.architectures.names import translate

_NAMES = {
    "word_embeddings": "embedding",
    "word_embeddings_layernorm": "embedding.norm",
    "ln_f": "norm",
    "lm_head": "head",
    "h.*.input_layernorm": "layers.*.attention.norm",
    "h.*.self_attention.query_key_value": "layers.*.attention.qkv",
    "h.*.self_attention.dense": "layers.*.attention.o",
    "h.*.post_attention_layernorm": "layers.*.mlp.norm",
    "h.*.mlp.dense_h_to_4h": "layers.*.mlp.up",
    "h.*.mlp.dense_4h_to_h": "layers.*.mlp.down",
}


class Bloom(Architecture):
    """BloomForCausalLM: BLOOM and BLOOMZ. The first checkpoints have no "transformer." before their names."""

    def spec(self, config: Mapping[str, Any]) -> DecoderSpec:
        fields = Fields(config)
        fields.refuse(
            "apply_residual_connection_post_layernorm", "the residual stream bypasses every norm here"
        )
        heads = fields.first_integer("n_head", "num_attention_heads")
        hidden_size = fields.first_integer("hidden_size", "n_embed")
        head_dim = hidden_size // max(heads, 1)
        return DecoderSpec(
            vocab_size=fields.integer("vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=4 * hidden_size,
            heads=heads,
            kv_heads=heads,
            head_dim=head_dim,
            layers=(LayerSpec(),) * fields.first_integer("n_layer", "num_hidden_layers"),
            norm_eps=fields.number("layer_norm_epsilon", 1e-5),
            attention_scale=head_dim**-0.5,
            ungated=Unary.GELU_TANH,
            tied_embeddings=fields.flag("tie_word_embeddings", True),
            embedding_norm=True,
            alibi=Alibi(
                slopes=paper_slopes(max(heads, 1)), trained_tokens=fields.integer("seq_length", 2048)
            ),
            qkv_bias=True,
            output_bias=True,
            mlp_bias=True,
            layer_norms=True,
            norm_bias=True,
            merged_qkv=True,
            grouped_qkv=True,
        )

    def weight_name(self, name: str) -> str | None:
        return translate(name.removeprefix("transformer."), _NAMES)
