"""Gemma 2 and the text models of Gemma 3 (Gemma Team, 2024 and 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quire.interfaces.architecture import Architecture
from quire.models.fields import Fields
from quire.models.rope import Rope
from quire.models.rope_config import rope_of
from quire.models.spec import DecoderSpec
from quire_plugins.architectures.llama import llama_spec, with_windows
from quire_plugins.architectures.names import LLAMA_NAMES, translate

_NAMES = {
    **LLAMA_NAMES,
    "model.layers.*.post_attention_layernorm": "layers.*.attention.post_norm",
    "model.layers.*.pre_feedforward_layernorm": "layers.*.mlp.norm",
    "model.layers.*.post_feedforward_layernorm": "layers.*.mlp.post_norm",
}


class Gemma2(Architecture):
    """Gemma2ForCausalLM: windows on every other layer, caps on scores and logits."""

    def spec(self, config: Mapping[str, Any]) -> DecoderSpec:
        fields = Fields(config)
        spec = replace(
            _gemma_spec(fields),
            attention_softcap=fields.optional_number("attn_logit_softcapping", 50.0),
            logit_softcap=fields.optional_number("final_logit_softcapping", 30.0),
        )
        return _with_windows(spec, fields, period=2)

    def weight_name(self, name: str) -> str | None:
        return translate(name, _NAMES)


class Gemma3(Architecture):
    """Gemma3ForCausalLM: norms on the heads of q and k, and a rotation of their own for sliding layers."""

    def spec(self, config: Mapping[str, Any]) -> DecoderSpec:
        fields = Fields(config)
        far, near = _gemma3_ropes(fields)
        spec = replace(
            _gemma_spec(fields, rope=far),
            qk_norm=True,
            attention_softcap=fields.optional_number("attn_logit_softcapping"),
            logit_softcap=fields.optional_number("final_logit_softcapping"),
        )
        spec = _with_windows(spec, fields, period=fields.integer("sliding_window_pattern", 6))
        return replace(
            spec,
            layers=tuple(
                layer if layer.window is None else replace(layer, rope=near) for layer in spec.layers
            ),
        )

    def weight_name(self, name: str) -> str | None:
        return translate(name, _NAMES)


def _gemma_spec(fields: Fields, *, rope: Rope | None = None) -> DecoderSpec:
    fields.refuse("use_bidirectional_attention", "the decoder's attention is causal")
    bias = fields.flag("attention_bias", False)
    spec = llama_spec(
        fields,
        head_dim=256,
        activation_field="hidden_activation",
        activation="gelu_pytorch_tanh",
        tied_embeddings=True,
        rope=rope,
    )
    return replace(
        spec,
        qkv_bias=bias,
        output_bias=bias,
        attention_scale=fields.number("query_pre_attn_scalar", 256) ** -0.5,
        embedding_scale=spec.hidden_size**0.5,
        post_norms=True,
        unit_offset_norms=True,
    )


def _with_windows(spec: DecoderSpec, fields: Fields, *, period: int) -> DecoderSpec:
    """Windows as `layer_types` says, or else on all layers but each `period`th."""
    window, layers = fields.integer("sliding_window", 4096), len(spec.layers)
    types = {"full_attention": None, "sliding_attention": window}
    listed = fields.choices("layer_types", types, length=layers)
    default = tuple(window if (index + 1) % period else None for index in range(layers))
    return with_windows(spec, default if listed is None else listed)


def _gemma3_ropes(fields: Fields) -> tuple[Rope, Rope]:
    """Rotations of the layers that see all and of those that slide, in the new form or the old."""
    head_dim, max_tokens = fields.integer("head_dim", 256), fields.integer("max_position_embeddings")
    nested = fields.section("rope_parameters") or Fields({})
    far = nested.section("full_attention") or fields.section("rope_scaling") or Fields({})
    near = nested.section("sliding_attention") or Fields({})
    far_theta = far.number("rope_theta", fields.number("rope_theta", 1e6))
    near_theta = near.number("rope_theta", fields.number("rope_local_base_freq", 1e4))
    return (
        rope_of(far, head_dim=head_dim, theta=far_theta, max_tokens=max_tokens),
        rope_of(near, head_dim=head_dim, theta=near_theta, max_tokens=max_tokens),
    )
