"""DeepSeek-V3 (DeepSeek-AI, 2024): DeepSeek-V2 with a score for each expert by itself, and a correction that
balances their choice and takes no part in their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quire.interfaces.architecture import Architecture
from quire.models.fields import Fields
from quire.models.spec import DecoderSpec, MoeSpec
from quire_plugins.architectures.deepseek_v2 import DEEPSEEK_NAMES, deepseek_spec, expert_groups
from quire_plugins.architectures.names import translate

_COUNTED = 2  # the best experts of a group, whose scores say what it is worth


class DeepseekV3(Architecture):
    """DeepseekV3ForCausalLM: DeepSeek-V3 and R1, Moonlight, Kimi K2; without layers for further tokens."""

    def spec(self, config: Mapping[str, Any]) -> DecoderSpec:
        fields = Fields(config)
        fields.choice_of("scoring_func", ("sigmoid",), "sigmoid")
        fields.choice_of("topk_method", ("noaux_tc",), "noaux_tc")
        moe = MoeSpec(
            experts=fields.integer("n_routed_experts", 256),
            experts_per_token=fields.integer("num_experts_per_tok", 8),
            intermediate_size=fields.integer("moe_intermediate_size", 2048),
            normalise=fields.flag("norm_topk_prob", True),
            sigmoid=True,
            correction=True,
            scale=fields.number("routed_scaling_factor", 2.5),
            exact_router=True,
        )
        groups, opened = fields.integer("n_group", 8), fields.integer("topk_group", 4)
        if groups > 1:
            moe = replace(moe, groups=expert_groups(fields, moe, groups, opened, counted=_COUNTED))
        interleaved = fields.flag("rope_interleave", True)
        spec = deepseek_spec(fields, moe, shared=1, dense=3, interleaved=interleaved)
        layers, further = len(spec.layers), fields.integer("num_nextn_predict_layers", 1)
        return replace(
            spec, unread=tuple(f"model.layers.{layer}." for layer in range(layers, layers + further))
        )

    def weight_name(self, name: str) -> str | None:
        new = translate(name, DEEPSEEK_NAMES)
        return None if new is None else new.replace("router.e_score_correction_bias", "router.correction")
