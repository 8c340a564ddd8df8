"""Falcon (Almazrouei et al., 2023): attention and feed-forward layer side by side, and few heads of keys; or,
as Falcon-RW, one after the other with ALiBi."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quire.interfaces.architecture import Architecture
from quire.models.alibi import Alibi, paper_slopes
from quire.models.fields import Fields
from quire.models.rope_config import rope_of
from quire.models.spec import DecoderSpec, LayerSpec
from quire.models.unary import Unary
from quire_plugins.architectures.names import translate

_NAMES = {
    "transformer.word_embeddings": "embedding",
    "transformer.ln_f": "norm",
    "lm_head": "head",
    "transformer.h.*.input_layernorm": "layers.*.attention.norm",
    "transformer.h.*.ln_attn": "layers.*.attention.norm",
    "transformer.h.*.self_attention.query_key_value": "layers.*.attention.qkv",
    "transformer.h.*.self_attention.dense": "layers.*.attention.o",
    "transformer.h.*.post_attention_layernorm": "layers.*.mlp.norm",
    "transformer.h.*.ln_mlp": "layers.*.mlp.norm",
    "transformer.h.*.mlp.dense_h_to_4h": "layers.*.mlp.up",
    "transformer.h.*.mlp.dense_4h_to_h": "layers.*.mlp.down",
}
_ACTIVATIONS = {"gelu": Unary.GELU, "gelu_pytorch_tanh": Unary.GELU_TANH}


class Falcon(Architecture):
    """FalconForCausalLM: Falcon 7B, 40B, 180B and 2-11B, and Falcon-RW.

    ALiBi's biases are exact, where transformers rounds each of them to bfloat16, and adds them twice in its
    eager attention.
    """

    def spec(self, config: Mapping[str, Any]) -> DecoderSpec:
        fields = Fields(config)
        heads = fields.first_integer("num_attention_heads", "n_head")
        hidden_size = fields.integer("hidden_size")
        head_dim = hidden_size // max(heads, 1)
        bias = fields.flag("bias", False)
        spec = DecoderSpec(
            vocab_size=fields.integer("vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=fields.integer("ffn_hidden_size", 4 * hidden_size),
            heads=heads,
            kv_heads=heads,
            head_dim=head_dim,
            layers=(_layer(fields, head_dim),) * fields.first_integer("num_hidden_layers", "n_layer"),
            norm_eps=fields.number("layer_norm_epsilon", 1e-5),
            attention_scale=head_dim**-0.5,
            ungated=fields.choice("activation", _ACTIVATIONS, "gelu"),
            tied_embeddings=fields.flag("tie_word_embeddings", True),
            alibi=_alibi(fields, heads, head_dim),
            qkv_bias=bias,
            output_bias=bias,
            mlp_bias=bias,
            layer_norms=True,
            norm_bias=True,
            merged_qkv=True,
        )
        if fields.flag("new_decoder_architecture", False):
            return replace(
                spec,
                kv_heads=fields.integer("num_kv_heads", heads),
                grouped_qkv=True,
                parallel=True,
                shared_norm=fields.integer("num_ln_in_parallel_attn", 2) == 1,
            )
        parallel, one_key = fields.flag("parallel_attn", True), fields.flag("multi_query", True)
        return replace(
            spec,
            kv_heads=1 if one_key else heads,
            grouped_qkv=not one_key,
            parallel=parallel,
            shared_norm=parallel,
        )

    def weight_name(self, name: str) -> str | None:
        return translate(name, _NAMES)


def _layer(fields: Fields, head_dim: int) -> LayerSpec:
    if fields.flag("alibi", False):
        return LayerSpec()
    scaling = fields.section("rope_parameters") or fields.section("rope_scaling") or Fields({})
    theta = scaling.number("rope_theta", fields.number("rope_theta", 1e4))
    return LayerSpec(rope=rope_of(scaling, head_dim=head_dim, theta=theta, max_tokens=_max_tokens(fields)))


def _alibi(fields: Fields, heads: int, head_dim: int) -> Alibi | None:
    if not fields.flag("alibi", False):
        return None
    # Biases are added before scores are scaled.
    slopes = tuple(slope * head_dim**-0.5 for slope in paper_slopes(max(heads, 1)))
    return Alibi(slopes=slopes, trained_tokens=_max_tokens(fields))


def _max_tokens(fields: Fields) -> int:
    return fields.integer("max_position_embeddings", 2048)
