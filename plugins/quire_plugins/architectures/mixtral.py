"""Mixtral (Jiang et al., 2024): Mistral with experts in every layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quire.interfaces.architecture import Architecture
from quire.models.fields import Fields
from quire.models.rope_config import read_rope
from quire.models.spec import DecoderSpec, MoeSpec
from quire_plugins.architectures.llama import llama_spec, with_windows
from quire_plugins.architectures.names import LLAMA_NAMES, translate

_NAMES = {
    **LLAMA_NAMES,
    "model.layers.*.block_sparse_moe.gate": "layers.*.mlp.router",
    "model.layers.*.block_sparse_moe.experts.*.w1": "layers.*.mlp.experts.*.gate",
    "model.layers.*.block_sparse_moe.experts.*.w2": "layers.*.mlp.experts.*.down",
    "model.layers.*.block_sparse_moe.experts.*.w3": "layers.*.mlp.experts.*.up",
}


class Mixtral(Architecture):
    """MixtralForCausalLM."""

    def spec(self, config: Mapping[str, Any]) -> DecoderSpec:
        fields = Fields(config)
        spec = llama_spec(fields, norm_eps=1e-5)
        moe = MoeSpec(
            experts=fields.integer("num_local_experts", 8),
            experts_per_token=fields.integer("num_experts_per_tok", 2),
            intermediate_size=spec.intermediate_size,
            normalise=True,
        )
        rope = read_rope(fields, head_dim=spec.head_dim, default_theta=1e6)
        spec = replace(spec, layers=tuple(replace(layer, moe=moe, rope=rope) for layer in spec.layers))
        return with_windows(spec, [fields.optional_integer("sliding_window")] * len(spec.layers))

    def weight_name(self, name: str) -> str | None:
        return translate(name, _NAMES)
