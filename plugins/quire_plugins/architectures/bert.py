"""BERT and what has its shape: RoBERTa, XLM-R, MiniLM.

Devlin et al., 2019; Liu et al., 2019; Conneau et al., 2020; Wang et al., 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from quire.interfaces.architecture import Architecture
from quire.models.encoder_spec import EncoderLayerSpec, EncoderSpec, HeadSpec
from quire.models.fields import Fields
from quire.models.unary import Unary
from quire_plugins.architectures.names import translate

ACTIVATIONS = {
    "gelu": Unary.GELU,
    "gelu_new": Unary.GELU_TANH,
    "gelu_pytorch_tanh": Unary.GELU_TANH,
    "relu": Unary.RELU,
    "silu": Unary.SILU,
    "tanh": Unary.TANH,
}

_NAMES = {
    "embeddings.word_embeddings": "embedding",
    "embeddings.position_embeddings": "embedding.positions",
    "embeddings.token_type_embeddings": "embedding.types",
    "embeddings.LayerNorm": "embedding.norm",
    "encoder.layer.*.attention.self.query": "layers.*.attention.q",
    "encoder.layer.*.attention.self.key": "layers.*.attention.k",
    "encoder.layer.*.attention.self.value": "layers.*.attention.v",
    "encoder.layer.*.attention.output.dense": "layers.*.attention.o",
    "encoder.layer.*.attention.output.LayerNorm": "layers.*.attention.norm",
    "encoder.layer.*.intermediate.dense": "layers.*.mlp.up",
    "encoder.layer.*.output.dense": "layers.*.mlp.down",
    "encoder.layer.*.output.LayerNorm": "layers.*.mlp.norm",
}
_OLD_KINDS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""As checkpoints name them that were converted from TensorFlow."""
_PRETRAINING = ("pooler.", "cls.", "lm_head.")
"""Heads that embeddings go without."""


class Bert(Architecture):
    """BertModel: BERT, MiniLM, BGE, E5, GTE and many more, with or without the heads of their pretraining."""

    head_names: ClassVar[Mapping[str, str]] = {}

    def spec(self, config: Mapping[str, Any]) -> EncoderSpec:
        return bert_spec(Fields(config))

    def weight_name(self, name: str) -> str | None:
        for prefix in ("bert.", "roberta."):
            name = name.removeprefix(prefix)
        for old, new in _OLD_KINDS.items():
            name = name.replace(old, new)
        if name == "embeddings.position_ids" or (not self.head_names and name.startswith(_PRETRAINING)):
            return None
        return translate(name, {**_NAMES, **self.head_names})


class Roberta(Bert):
    """RobertaModel and XLMRobertaModel: positions are counted from the padding token's id on."""

    def spec(self, config: Mapping[str, Any]) -> EncoderSpec:
        return roberta_spec(Fields(config))


class BertClassifier(Bert):
    """BertForSequenceClassification: a cross-encoder, or a classifier."""

    head_names: ClassVar = {"pooler.dense": "head.dense", "classifier": "head.out"}

    def spec(self, config: Mapping[str, Any]) -> EncoderSpec:
        fields = Fields(config)
        return replace(bert_spec(fields), head=HeadSpec(labels=label_count(fields)))


class RobertaClassifier(Bert):
    """RobertaForSequenceClassification and XLMRobertaForSequenceClassification: BGE rerankers and others."""

    head_names: ClassVar = {"classifier.dense": "head.dense", "classifier.out_proj": "head.out"}

    def spec(self, config: Mapping[str, Any]) -> EncoderSpec:
        fields = Fields(config)
        return replace(roberta_spec(fields), head=HeadSpec(labels=label_count(fields)))


def bert_spec(fields: Fields) -> EncoderSpec:
    """The fields that BERT and its relatives share."""
    fields.refuse("quantization_config", "quantised checkpoints are not read; take the one it was made from")
    fields.refuse("is_decoder", "the encoder's attention sees both directions")
    fields.choice("position_embedding_type", {"absolute": True}, "absolute")
    positions = fields.integer("max_position_embeddings", 512)
    return EncoderSpec(
        vocab_size=fields.integer("vocab_size"),
        hidden_size=fields.integer("hidden_size"),
        intermediate_size=fields.integer("intermediate_size"),
        heads=fields.integer("num_attention_heads"),
        layers=(EncoderLayerSpec(),) * fields.integer("num_hidden_layers"),
        max_tokens=positions,
        norm_eps=fields.number("layer_norm_eps", 1e-12),
        activation=fields.choice("hidden_act", ACTIVATIONS, "gelu"),
        position_rows=positions,
        token_types=fields.integer("type_vocab_size", 2),
    )


def roberta_spec(fields: Fields) -> EncoderSpec:
    """Like BERT, but the rows of the position table up to the padding token's id are not used."""
    spec = bert_spec(fields)
    first = fields.integer("pad_token_id", 1) + 1
    return replace(spec, first_position=first, max_tokens=spec.position_rows - first)


def label_count(fields: Fields) -> int:
    """How many logits a classification head has: config.json lists their names unless there are two."""
    names = fields.section("id2label")
    return fields.integer("num_labels", 2 if names is None else len(names.values))
