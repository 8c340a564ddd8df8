"""DeepSeek-V2 (DeepSeek-AI, 2024): latents in the place of keys and values, experts beside shared ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quire.interfaces.architecture import Architecture
from quire.models.fields import Fields
from quire.models.rope import YarnRope
from quire.models.rope_config import read_rope, score_stretch
from quire.models.spec import DecoderSpec, ExpertGroups, LatentSpec, MoeSpec
from quire_plugins.architectures.llama import llama_spec
from quire_plugins.architectures.names import EXPERT_NAMES, LLAMA_NAMES, translate

_LATENT_NORM_EPS = 1e-6  # whatever rms_norm_eps says of the layers' own norms

DEEPSEEK_NAMES: Mapping[str, str] = {
    **LLAMA_NAMES,
    **EXPERT_NAMES,
    "model.layers.*.self_attn.q_a_proj": "layers.*.attention.q_a",
    "model.layers.*.self_attn.q_a_layernorm": "layers.*.attention.q_a_norm",
    "model.layers.*.self_attn.q_b_proj": "layers.*.attention.q_b",
    "model.layers.*.self_attn.kv_a_proj_with_mqa": "layers.*.attention.kv_a",
    "model.layers.*.self_attn.kv_a_layernorm": "layers.*.attention.kv_a_norm",
    "model.layers.*.self_attn.kv_b_proj": "layers.*.attention.kv_b",
    "model.layers.*.mlp.shared_experts.gate_proj": "layers.*.mlp.shared.gate",
    "model.layers.*.mlp.shared_experts.up_proj": "layers.*.mlp.shared.up",
    "model.layers.*.mlp.shared_experts.down_proj": "layers.*.mlp.shared.down",
}


class DeepseekV2(Architecture):
    """DeepseekV2ForCausalLM: DeepSeek-V2 and V2.5, their Lite and Coder versions."""

    def spec(self, config: Mapping[str, Any]) -> DecoderSpec:
        fields = Fields(config)
        fields.choice_of("scoring_func", ("softmax",), "softmax")
        fields.refuse("norm_topk_prob", "the weights of this family's experts are those of the softmax")
        method = fields.choice_of("topk_method", ("greedy", "group_limited_greedy"), "greedy")
        moe = MoeSpec(
            experts=fields.integer("n_routed_experts", 64),
            experts_per_token=fields.integer("num_experts_per_tok"),
            intermediate_size=fields.integer("moe_intermediate_size", 1407),
            normalise=False,
            scale=fields.number("routed_scaling_factor", 1.0),
            exact_router=True,
        )
        if method == "group_limited_greedy":
            moe = replace(
                moe,
                groups=expert_groups(fields, moe, fields.integer("n_group"), fields.integer("topk_group")),
            )
        return deepseek_spec(fields, moe, shared=2, dense=0, interleaved=True)

    def weight_name(self, name: str) -> str | None:
        return translate(name, DEEPSEEK_NAMES)


def deepseek_spec(fields: Fields, moe: MoeSpec, *, shared: int, dense: int, interleaved: bool) -> DecoderSpec:
    """What all versions share. `shared` and `dense` are how many experts all tokens use, and how many layers
    have none, where config.json does not say.
    """
    fields.refuse("mlp_bias", "this family's feed-forward layers have no biases here")
    fields.choice_of("moe_layer_freq", (1,), 1)
    heads = fields.integer("num_attention_heads")
    if fields.integer("num_key_value_heads", heads) != heads:
        raise fields.wrong("num_key_value_heads", f"num_attention_heads, {heads}")
    latent = LatentSpec(
        kv_rank=_at_least_1(fields, "kv_lora_rank", 512),
        rotary_dim=_at_least_1(fields, "qk_rope_head_dim", 64),
        key_dim=_at_least_1(fields, "qk_nope_head_dim", 128),
        value_dim=_at_least_1(fields, "v_head_dim", 128),
        q_rank=fields.optional_integer("q_lora_rank", 1536),
        interleaved=interleaved,
        norm_eps=_LATENT_NORM_EPS,
    )
    head_dim = latent.key_dim + latent.rotary_dim
    rope = read_rope(fields, head_dim=latent.rotary_dim)
    stretch = score_stretch(fields) if isinstance(rope, YarnRope) else 1.0
    spec = llama_spec(fields, rope=rope)
    bias = fields.flag("attention_bias", False)
    dense = fields.integer("first_k_dense_replace", dense)
    shared = fields.optional_integer("n_shared_experts", shared) or 0
    moe = replace(moe, shared_size=shared * moe.intermediate_size)
    return replace(
        spec,
        kv_heads=heads,
        head_dim=head_dim,
        attention_scale=head_dim**-0.5 * stretch,
        latent=latent,
        qkv_bias=bias,
        output_bias=bias,
        layers=tuple(
            layer if index < dense else replace(layer, moe=moe) for index, layer in enumerate(spec.layers)
        ),
    )


def expert_groups(
    fields: Fields, moe: MoeSpec, groups: int, opened: int, *, counted: int = 1
) -> ExpertGroups:
    """`n_group` and `topk_group`, checked."""
    if groups < 1 or moe.experts % groups or moe.experts // groups < counted:
        raise fields.wrong(
            "n_group", f"a divisor of n_routed_experts, {moe.experts}, with {counted} or more in each"
        )
    if not moe.experts_per_token <= opened * (moe.experts // groups) <= moe.experts:
        raise fields.wrong(
            "topk_group", f"at most n_group, {groups}, and enough for {moe.experts_per_token} experts"
        )
    return ExpertGroups(groups=groups, open=opened, counted=counted)


def _at_least_1(fields: Fields, name: str, default: int) -> int:
    value = fields.integer(name, default)
    if value < 1:
        raise fields.wrong(name, "at least 1")
    return value
