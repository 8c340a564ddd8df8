"""Encoders, rerankers and headless decoders against transformers, in float32: every state of every token."""

import json

import numpy as np
import pytest
import torch
from checkpoints import make_checkpoint as make_decoder
from text_checkpoints import (
    DECODERS,
    ENCODERS,
    RERANKERS,
    load,
    make_checkpoint,
    oracle_states,
    random_texts,
)

from quire.errors import MissingCapability
from quire.models.encoder_spec import EncoderSpec
from quire.models.packed_texts import pack
from quire.models.text_model import TextModel
from quire_plugins.architectures.bert import Bert
from quire_plugins.ops.native import NativeOps, NativeOpsConfig

LENGTHS = (1, 5, 6, 6, 40, 44, 44, 90, 300)
"""Texts alone, of equal and of similar lengths; beyond a window, and beyond a block of queries."""


def all_states(model: TextModel, texts: list[list[int]]) -> list[np.ndarray]:
    packed = pack(texts, None, device=torch.device("cpu"))
    with torch.inference_mode():
        states_TE = model.states(packed, torch.arange(packed.num_tokens))
    return [part.float().numpy() for part in states_TE.split([len(text) for text in texts])]


def assert_same_states(model: TextModel, oracle: torch.nn.Module, lengths: tuple[int, ...] = LENGTHS) -> None:
    texts = random_texts(lengths)
    for text, states_TE in zip(texts, all_states(model, texts), strict=True):
        expected_TE = oracle_states(oracle, text)
        assert expected_TE.std() > 0.3, "flat states would hide differences"
        np.testing.assert_allclose(states_TE, expected_TE, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", [*ENCODERS, *DECODERS])
def test_states_are_those_of_transformers(family, tmp_path):
    oracle = make_checkpoint((ENCODERS | DECODERS)[family], tmp_path)
    assert_same_states(load(tmp_path), oracle)


@pytest.mark.parametrize("family", ["bert", "modern_bert", "qwen3"])
def test_states_are_the_same_with_native_ops(family, tmp_path):
    oracle = make_checkpoint((ENCODERS | DECODERS)[family], tmp_path)
    assert_same_states(load(tmp_path, ops=NativeOps(config=NativeOpsConfig(), device="cpu")), oracle)


@pytest.mark.parametrize("family", RERANKERS)
def test_the_trunk_of_a_reranker_is_that_of_transformers(family, tmp_path):
    oracle = make_checkpoint(RERANKERS[family], tmp_path)
    assert_same_states(load(tmp_path), oracle, lengths=(7, 33))


@pytest.mark.parametrize("family", ["bert", "modern_bert", "qwen3"])
def test_rows_that_are_not_asked_for_change_nothing(family, tmp_path):
    make_checkpoint((ENCODERS | DECODERS)[family], tmp_path)
    model, texts = load(tmp_path), random_texts((3, 9, 30))
    rows = [0, 2, 4, 41]
    packed = pack(texts, None, device=torch.device("cpu"))
    with torch.inference_mode():
        some_RE = model.states(packed, torch.tensor(rows)).numpy()
    np.testing.assert_allclose(some_RE, np.concatenate(all_states(model, texts))[rows], atol=1e-5, rtol=1e-5)


def test_a_headless_decoder_reads_tensors_without_the_models_prefix(tmp_path):
    from safetensors import safe_open

    oracle = make_checkpoint(DECODERS["qwen3"], tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert "embed_tokens.weight" in file.keys()  # noqa: SIM118 - not a mapping
    assert_same_states(load(tmp_path), oracle, lengths=(5, 20))


def test_a_decoder_saved_with_its_head_embeds_if_its_files_say_so(tmp_path):
    from text_checkpoints import write_recipe

    family = ("Qwen3ForCausalLM", DECODERS["qwen3"][1])
    oracle = make_checkpoint(family, tmp_path)
    write_recipe(tmp_path, pooling="lasttoken")
    assert_same_states(load(tmp_path), oracle, lengths=(5, 20))


def test_bfloat16_is_close_to_float32(tmp_path):
    make_checkpoint(ENCODERS["bert"], tmp_path)
    texts = random_texts((4, 30))
    exact, rounded = (all_states(load(tmp_path, dtype=dtype), texts) for dtype in ("float32", "bfloat16"))
    for a, b in zip(exact, rounded, strict=True):
        assert 0 < np.abs(a - b).max() < 0.5


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bert.embeddings.LayerNorm.gamma", "embedding.norm.weight"),
        ("embeddings.LayerNorm.beta", "embedding.norm.bias"),
        ("roberta.encoder.layer.11.output.dense.bias", "layers.11.mlp.down.bias"),
        ("embeddings.position_ids", None),
        ("pooler.dense.weight", None),
        ("cls.predictions.bias", None),
        (
            "encoder.layer.0.crossattention.self.query.weight",
            "encoder.layer.0.crossattention.self.query.weight",
        ),
    ],
)
def test_names_of_old_checkpoints(old, new):
    assert Bert().weight_name(old) == new


def test_old_modern_bert_configs_say_the_same():
    from quire_plugins.architectures.modern_bert import ModernBert

    shape = {
        "vocab_size": 100,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "local_attention": 32,
    }
    old = {"global_rope_theta": 9e4, "local_rope_theta": 8e3, "global_attn_every_n_layers": 3}
    new = {
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 9e4},
            "sliding_attention": {"rope_type": "default", "rope_theta": 8e3},
        },
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
    }
    spec = ModernBert().spec(shape | old)
    assert isinstance(spec, EncoderSpec)
    assert spec == ModernBert().spec(shape | new)
    assert [layer.reach for layer in spec.layers] == [None, 16, 16, None]


@pytest.mark.parametrize(
    ("family", "architecture", "lack"),
    [("deepseek_v2", "DeepseekV2Model", "latents"), ("bloom", "BloomModel", "alibi")],
)
def test_a_decoder_that_needs_more_is_refused_by_name(family, architecture, lack, tmp_path):
    make_decoder(family, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": [architecture]}))
    with pytest.raises(
        MissingCapability, match=f"attention over whole texts has no {lack}, which {architecture}"
    ):
        load(tmp_path)
