"""Translation of checkpoint tensor names."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")

LLAMA_NAMES: Mapping[str, str] = {
    "model.embed_tokens": "embedding",
    "model.norm": "norm",
    "lm_head": "head",
    "model.layers.*.input_layernorm": "layers.*.attention.norm",
    "model.layers.*.self_attn.q_proj": "layers.*.attention.q",
    "model.layers.*.self_attn.k_proj": "layers.*.attention.k",
    "model.layers.*.self_attn.v_proj": "layers.*.attention.v",
    "model.layers.*.self_attn.o_proj": "layers.*.attention.o",
    "model.layers.*.self_attn.q_norm": "layers.*.attention.q_norm",
    "model.layers.*.self_attn.k_norm": "layers.*.attention.k_norm",
    "model.layers.*.post_attention_layernorm": "layers.*.mlp.norm",
    "model.layers.*.mlp.gate_proj": "layers.*.mlp.gate",
    "model.layers.*.mlp.up_proj": "layers.*.mlp.up",
    "model.layers.*.mlp.down_proj": "layers.*.mlp.down",
}
"""Modules of a Llama checkpoint and the decoder's names of them; `*` stands for a number."""

EXPERT_NAMES: Mapping[str, str] = {
    "model.layers.*.mlp.gate": "layers.*.mlp.router",
    "model.layers.*.mlp.experts.*.gate_proj": "layers.*.mlp.experts.*.gate",
    "model.layers.*.mlp.experts.*.up_proj": "layers.*.mlp.experts.*.up",
    "model.layers.*.mlp.experts.*.down_proj": "layers.*.mlp.experts.*.down",
}
"""Modules of layers with experts, as Qwen and DeepSeek name them."""


def translate(name: str, modules: Mapping[str, str]) -> str | None:
    """The decoder's name of tensor `name`, whose module is looked up in `modules`.

    A name that no module matches is returned unchanged, so that the loader reports it as unknown. None for
    the rotary tables that old checkpoints carry.
    """
    if name.endswith(".rotary_emb.inv_freq"):
        return None
    module, _, kind = name.rpartition(".")
    numbers = iter(_NUMBER.findall(f"{module}."))
    new = modules.get(_NUMBER.sub("*", f"{module}.")[:-1])
    return name if new is None else re.sub(r"\*", lambda _: next(numbers), f"{new}.{kind}")
