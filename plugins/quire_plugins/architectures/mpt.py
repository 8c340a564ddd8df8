"""MPT (MosaicML, 2023): ALiBi, no biases, and feed-forward layers without a gate."""

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
    "transformer.wte": "embedding",
    "transformer.norm_f": "norm",
    "lm_head": "head",
    "transformer.blocks.*.norm_1": "layers.*.attention.norm",
    "transformer.blocks.*.attn.Wqkv": "layers.*.attention.qkv",
    "transformer.blocks.*.attn.out_proj": "layers.*.attention.o",
    "transformer.blocks.*.norm_2": "layers.*.mlp.norm",
    "transformer.blocks.*.ffn.up_proj": "layers.*.mlp.up",
    "transformer.blocks.*.ffn.down_proj": "layers.*.mlp.down",
}
_NORMS = ("low_precision_layernorm", "layernorm")


class Mpt(Architecture):
    """MptForCausalLM, in MosaicML's own checkpoints MPTForCausalLM: MPT-7B and MPT-30B.

    `alibi_bias_max` counts, as for MosaicML; transformers takes 8 whatever it says.
    """

    def spec(self, config: Mapping[str, Any]) -> DecoderSpec:
        fields = Fields(config)
        attention = fields.section("attn_config") or Fields({})
        _check(fields, attention)
        heads, hidden_size = fields.integer("n_heads", 16), fields.integer("d_model", 2048)
        head_dim = hidden_size // max(heads, 1)
        slopes = paper_slopes(max(heads, 1), largest_exponent=attention.number("alibi_bias_max", 8.0))
        return DecoderSpec(
            vocab_size=fields.integer("vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=fields.integer("expansion_ratio", 4) * hidden_size,
            heads=heads,
            kv_heads=heads,
            head_dim=head_dim,
            layers=(LayerSpec(),) * fields.integer("n_layers", 24),
            norm_eps=fields.number("layer_norm_epsilon", 1e-5),
            attention_scale=attention.number("softmax_scale", head_dim**-0.5),
            ungated=Unary.GELU,
            tied_embeddings=fields.flag("tie_word_embeddings", True),
            alibi=Alibi(slopes=slopes, trained_tokens=fields.integer("max_seq_len", 2048)),
            qkv_clip=attention.optional_number("clip_qkv"),
            layer_norms=True,
            merged_qkv=True,
        )

    def weight_name(self, name: str) -> str | None:
        return translate(name, _NAMES)


def _check(fields: Fields, attention: Fields) -> None:
    """What MosaicML's code can do and transformers' model, the one that is followed, can't."""
    fields.choice_of("no_bias", (True,), True)
    fields.choice_of("norm_type", _NORMS, _NORMS[0])
    fields.refuse("logit_scale", "logits are not scaled here")
    attention.choice_of("alibi", (True,), True)
    attention.choice_of("attn_type", ("multihead_attention",), "multihead_attention")
    for field, reason in {
        "prefix_lm": "attention is causal here",
        "qk_ln": "heads have no norms here",
        "rope": "nothing turns here",
    }.items():
        attention.refuse(field, reason)
