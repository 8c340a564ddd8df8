"""Phi-3 and Phi-4 (Abdin et al., 2024): Llama with joint tensors and LongRoPE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quire.interfaces.architecture import Architecture
from quire.models.fields import Fields
from quire.models.rope_config import read_rope
from quire.models.spec import DecoderSpec
from quire_plugins.architectures.llama import llama_spec, with_windows
from quire_plugins.architectures.names import LLAMA_NAMES, translate

_NAMES = {
    **LLAMA_NAMES,
    "model.layers.*.self_attn.qkv_proj": "layers.*.attention.qkv",
    "model.layers.*.mlp.gate_up_proj": "layers.*.mlp.gate_up",
}
_ROPE_ALIASES = {"su": "longrope", "yarn": "longrope"}
"""Names under which the first Phi-3 checkpoints published LongRoPE."""


class Phi3(Architecture):
    """Phi3ForCausalLM."""

    def spec(self, config: Mapping[str, Any]) -> DecoderSpec:
        fields = Fields(config)
        head_dim = fields.integer("hidden_size") // max(fields.integer("num_attention_heads"), 1)
        rope = read_rope(fields, head_dim=head_dim, aliases=_ROPE_ALIASES)
        spec = replace(llama_spec(fields, norm_eps=1e-5, rope=rope), merged_qkv=True, merged_gate_up=True)
        return with_windows(spec, [fields.optional_integer("sliding_window")] * len(spec.layers))

    def weight_name(self, name: str) -> str | None:
        return translate(name, _NAMES)
