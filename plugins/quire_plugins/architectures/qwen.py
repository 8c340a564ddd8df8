"""Qwen 2, Qwen 3 and Qwen 3 with experts (Yang et al., 2024 and 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quire.interfaces.architecture import Architecture
from quire.models.fields import Fields
from quire.models.spec import DecoderSpec, MoeSpec
from quire_plugins.architectures.llama import llama_spec, with_windows
from quire_plugins.architectures.names import EXPERT_NAMES, LLAMA_NAMES, translate

_MOE_NAMES = {**LLAMA_NAMES, **EXPERT_NAMES}


class Qwen2(Architecture):
    """Qwen2ForCausalLM: Llama with biases on q, k and v. Qwen 1.5, 2 and 2.5."""

    def spec(self, config: Mapping[str, Any]) -> DecoderSpec:
        fields = Fields(config)
        return with_windows(replace(llama_spec(fields), qkv_bias=True), _windows(fields))

    def weight_name(self, name: str) -> str | None:
        return translate(name, LLAMA_NAMES)


class Qwen3(Architecture):
    """Qwen3ForCausalLM: norms on the heads of q and k instead of biases."""

    def spec(self, config: Mapping[str, Any]) -> DecoderSpec:
        fields = Fields(config)
        return with_windows(_qwen3_spec(fields, head_dim=128), _windows(fields))

    def weight_name(self, name: str) -> str | None:
        return translate(name, LLAMA_NAMES)


class Qwen3Moe(Architecture):
    """Qwen3MoeForCausalLM: experts in all layers or some of them."""

    def spec(self, config: Mapping[str, Any]) -> DecoderSpec:
        fields = Fields(config)
        spec = _qwen3_spec(fields)
        moe = MoeSpec(
            # transformers writes the field under either name, depending on its version.
            experts=fields.integer("num_experts", fields.integer("num_local_experts", 128)),
            experts_per_token=fields.integer("num_experts_per_tok", 8),
            intermediate_size=fields.integer("moe_intermediate_size", 768),
            normalise=fields.flag("norm_topk_prob", False),
        )
        dense, every = fields.integers("mlp_only_layers"), fields.integer("decoder_sparse_step", 1)
        layers = tuple(
            replace(layer, moe=None if index in dense or (index + 1) % every else moe)
            for index, layer in enumerate(spec.layers)
        )
        return with_windows(replace(spec, layers=layers), [_window(fields)] * len(layers))

    def weight_name(self, name: str) -> str | None:
        return translate(name, _MOE_NAMES)


def _qwen3_spec(fields: Fields, *, head_dim: int | None = None) -> DecoderSpec:
    bias = fields.flag("attention_bias", False)
    spec = llama_spec(fields, head_dim=head_dim)
    return replace(spec, qk_norm=True, qkv_bias=bias, output_bias=bias)


def _windows(fields: Fields) -> tuple[int | None, ...]:
    """One a layer: as `layer_types` says, or else on those from `max_window_layers` on."""
    window, layers = _window(fields), fields.integer("num_hidden_layers")
    types = {"full_attention": None, "sliding_attention": window}
    listed = fields.choices("layer_types", types, length=layers)
    if listed is not None:
        return listed
    first = fields.integer("max_window_layers", 28)
    return tuple(window if index >= first else None for index in range(layers))


def _window(fields: Fields) -> int | None:
    if not fields.flag("use_sliding_window", False):
        return None
    return fields.optional_integer("sliding_window", 4096)
