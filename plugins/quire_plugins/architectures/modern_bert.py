"""ModernBERT (Warner et al., 2024): rotary positions, gated layers, windows on two layers of three."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quire.interfaces.architecture import Architecture
from quire.models.encoder_spec import EncoderLayerSpec, EncoderSpec, HeadSpec, Pooling
from quire.models.fields import Fields
from quire.models.rope_config import rope_of
from quire_plugins.architectures.bert import ACTIVATIONS, label_count
from quire_plugins.architectures.names import translate

_NAMES = {
    "embeddings.tok_embeddings": "embedding",
    "embeddings.norm": "embedding.norm",
    "layers.*.attn_norm": "layers.*.attention.norm",
    "layers.*.attn.Wqkv": "layers.*.attention.qkv",
    "layers.*.attn.Wo": "layers.*.attention.o",
    "layers.*.mlp_norm": "layers.*.mlp.norm",
    "layers.*.mlp.Wi": "layers.*.mlp.up",
    "layers.*.mlp.Wo": "layers.*.mlp.down",
    "final_norm": "norm",
}
_HEAD_NAMES = {"head.dense": "head.dense", "head.norm": "head.norm", "classifier": "head.out"}


class ModernBert(Architecture):
    """ModernBertModel, with or without the head of its pretraining."""

    def spec(self, config: Mapping[str, Any]) -> EncoderSpec:
        return _modern_bert_spec(Fields(config))

    def weight_name(self, name: str) -> str | None:
        if name.startswith(("head.", "decoder.")):
            return None
        return translate(name.removeprefix("model."), _NAMES)


class ModernBertClassifier(Architecture):
    """ModernBertForSequenceClassification: a cross-encoder, or a classifier."""

    def spec(self, config: Mapping[str, Any]) -> EncoderSpec:
        fields = Fields(config)
        head = HeadSpec(
            labels=label_count(fields),
            pooling=fields.choice("classifier_pooling", {"cls": Pooling.cls, "mean": Pooling.mean}, "cls"),
            activation=fields.choice("classifier_activation", ACTIVATIONS, "gelu"),
            dense_bias=fields.flag("classifier_bias", False),
            norm=True,
        )
        return replace(_modern_bert_spec(fields), head=head)

    def weight_name(self, name: str) -> str | None:
        return translate(name.removeprefix("model."), {**_NAMES, **_HEAD_NAMES})


def _modern_bert_spec(fields: Fields) -> EncoderSpec:
    fields.refuse("quantization_config", "quantised checkpoints are not read; take the one it was made from")
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    max_tokens = fields.integer("max_position_embeddings", 8192)
    far, near = (
        _layer(fields, kind, old, theta, head_dim=hidden // max(heads, 1), max_tokens=max_tokens)
        for kind, old, theta in (
            ("full_attention", "global_rope_theta", 160_000.0),
            ("sliding_attention", "local_rope_theta", 10_000.0),
        )
    )
    near = replace(near, reach=fields.integer("local_attention", 128) // 2)
    count = fields.integer("num_hidden_layers")
    listed = fields.choices("layer_types", {"full_attention": far, "sliding_attention": near}, length=count)
    period = fields.integer("global_attn_every_n_layers", 3)
    return EncoderSpec(
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden,
        intermediate_size=fields.integer("intermediate_size"),
        heads=heads,
        layers=listed or tuple(near if period and index % period else far for index in range(count)),
        max_tokens=max_tokens,
        norm_eps=fields.number("norm_eps", 1e-5),
        activation=fields.choice("hidden_activation", ACTIVATIONS, "gelu"),
        pre_norm=True,
        gated=True,
        attention_bias=fields.flag("attention_bias", False),
        mlp_bias=fields.flag("mlp_bias", False),
        norm_bias=fields.flag("norm_bias", False),
        merged_qkv=True,
    )


def _layer(
    fields: Fields, kind: str, old_theta: str, theta: float, *, head_dim: int, max_tokens: int
) -> EncoderLayerSpec:
    """A layer of that kind with its rotation, in the new form (rope_parameters) or the old."""
    parameters = (fields.section("rope_parameters") or Fields({})).section(kind) or Fields({})
    theta = parameters.number("rope_theta", fields.number(old_theta, theta))
    return EncoderLayerSpec(rope=rope_of(parameters, head_dim=head_dim, theta=theta, max_tokens=max_tokens))
