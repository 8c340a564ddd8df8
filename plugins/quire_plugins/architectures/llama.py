"""Llama (Touvron et al., 2023; Grattafiori et al., 2024), and what most other families start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from quire.interfaces.architecture import Architecture
from quire.interfaces.ops import Activation
from quire.models.fields import Fields
from quire.models.rope import Rope
from quire.models.rope_config import read_rope
from quire.models.spec import DecoderSpec, LayerSpec
from quire_plugins.architectures.names import LLAMA_NAMES, translate

_ACTIVATIONS = {"silu": Activation.SILU, "gelu_pytorch_tanh": Activation.GELU_TANH}


class Llama(Architecture):
    """LlamaForCausalLM: Llama 2 and 3, SmolLM, TinyLlama, Yi and many more."""

    def spec(self, config: Mapping[str, Any]) -> DecoderSpec:
        fields = Fields(config)
        attention_bias = fields.flag("attention_bias", False)
        return replace(
            llama_spec(fields),
            qkv_bias=attention_bias,
            output_bias=attention_bias,
            mlp_bias=fields.flag("mlp_bias", False),
        )

    def weight_name(self, name: str) -> str | None:
        return translate(name, LLAMA_NAMES)


def llama_spec(
    fields: Fields,
    *,
    head_dim: int | None = None,
    norm_eps: float = 1e-6,
    activation_field: str = "hidden_act",
    activation: str = "silu",
    tied_embeddings: bool = False,
    rope: Rope | None = None,
) -> DecoderSpec:
    """The fields that all descendants of Llama share.

    The keyword arguments are what the family assumes where config.json does not say; `rope` replaces what it
    says.
    """
    heads, hidden_size = fields.integer("num_attention_heads"), fields.integer("hidden_size")
    head_dim = fields.integer("head_dim", head_dim or hidden_size // max(heads, 1))
    layer = LayerSpec(rope=rope or read_rope(fields, head_dim=head_dim))
    return DecoderSpec(
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size"),
        heads=heads,
        kv_heads=fields.integer("num_key_value_heads", heads),
        head_dim=head_dim,
        layers=(layer,) * fields.integer("num_hidden_layers"),
        norm_eps=fields.number("rms_norm_eps", norm_eps),
        attention_scale=head_dim**-0.5,
        activation=fields.choice(activation_field, _ACTIVATIONS, activation),
        tied_embeddings=fields.flag("tie_word_embeddings", tied_embeddings),
    )


def with_windows(spec: DecoderSpec, windows: Sequence[int | None]) -> DecoderSpec:
    """The same decoder with these sliding windows, one a layer."""
    layers = (replace(layer, window=window) for layer, window in zip(spec.layers, windows, strict=True))
    return replace(spec, layers=tuple(layers))
