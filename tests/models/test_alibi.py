"""Attention with linear biases: slopes, limits, and the families that have them or came with them."""

import json
from pathlib import Path

import pytest
import torch
from checkpoints import MAX_TOKENS, make_checkpoint
from loading import ARCHITECTURES, load
from safetensors.torch import load_file, save_file
from test_native_logits import assert_same_logits
from thread_ranks import on_ranks
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from quire.errors import MissingCapability, UserError
from quire.models.alibi import paper_slopes
from quire.models.build import load_model
from quire.models.spec import DecoderSpec
from quire.runtime.rank_group import RankGroup
from quire_plugins.attention.sdpa import SdpaAttention, SdpaConfig
from quire_plugins.ops.native import NativeOps, NativeOpsConfig
from quire_plugins.ops.torch_ops import TorchOps, TorchOpsConfig
from quire_plugins.quantization.none import NoQuantization, NoQuantizationConfig


def spec_of(architecture: str, **config: object) -> DecoderSpec:
    spec = ARCHITECTURES[architecture].spec(config)
    assert isinstance(spec, DecoderSpec)
    return spec


@pytest.mark.parametrize("heads", [1, 2, 3, 8, 12, 16, 71, 112])
def test_slopes_are_those_of_transformers(heads: int) -> None:
    expected_H1 = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)[:, 0, 1]
    torch.testing.assert_close(torch.tensor(paper_slopes(heads)), expected_H1, rtol=1e-6, atol=0)


def test_slopes_of_another_range() -> None:
    assert paper_slopes(4, largest_exponent=16) == (2**-4, 2**-8, 2**-12, 2**-16)
    attention = {"alibi": True, "alibi_bias_max": 16}
    spec = spec_of("MptForCausalLM", vocab_size=9, n_heads=4, attn_config=attention)
    assert spec.alibi is not None
    assert spec.alibi.slopes == paper_slopes(4, largest_exponent=16)


@pytest.mark.parametrize("family", ["bloom_six_heads", "falcon_two_norms", "mpt_clipped"])
def test_equal_with_native_ops(family: str, tmp_path: Path) -> None:
    oracle = make_checkpoint(family, tmp_path)
    assert_same_logits(load(tmp_path, ops=NativeOps(config=NativeOpsConfig(), device="cpu")), oracle)


@pytest.mark.parametrize("family", ["bloom", "falcon"])
def test_chunks_change_nothing(family: str, tmp_path: Path) -> None:
    oracle = make_checkpoint(family, tmp_path)
    assert_same_logits(load(tmp_path), oracle, lengths=(3, 30, 23), chunk=7)


def test_longer_than_in_training(tmp_path: Path) -> None:
    oracle = make_checkpoint("bloom", tmp_path)
    assert load(tmp_path).info.max_tokens == MAX_TOKENS
    model = load(tmp_path, max_tokens=3 * MAX_TOKENS)
    assert model.info.max_tokens == 3 * MAX_TOKENS
    assert_same_logits(model, oracle, lengths=(MAX_TOKENS + 90,), chunk=300)


def test_biases_of_falcon_are_not_rounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers rounds each to bfloat16, which holds positions up to 256."""
    monkeypatch.setattr("transformers.models.falcon.modeling_falcon.build_alibi_tensor", build_alibi_tensor)
    oracle = make_checkpoint("falcon_rw", tmp_path)
    assert_same_logits(load(tmp_path), oracle, lengths=(400,), chunk=400)


def test_each_rank_has_the_slopes_of_its_heads(tmp_path: Path) -> None:
    make_checkpoint("bloom", tmp_path)
    whole = load(tmp_path).layers[0].alibi_slopes_H
    assert whole is not None

    def slopes(group: RankGroup) -> torch.Tensor:
        found = load(tmp_path, group=group).layers[0].alibi_slopes_H
        assert found is not None
        return found

    assert torch.equal(torch.cat(on_ranks(2, slopes)), whole)


def test_names_of_the_first_bloom(tmp_path: Path) -> None:
    oracle = make_checkpoint("bloom", tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = {name.removeprefix("transformer."): x for name, x in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    config["n_embed"] = config.pop("hidden_size")
    config["num_attention_heads"] = config.pop("n_head")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_same_logits(load(tmp_path), oracle)


def test_a_head_of_its_own(tmp_path: Path) -> None:
    """Falcon's checkpoints may hold the tied table twice; untied ones differ."""
    oracle = make_checkpoint("falcon", tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors["transformer.word_embeddings.weight"].clone()
    save_file(tensors, file, metadata={"format": "pt"})
    assert_same_logits(load(tmp_path), oracle)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    assert_same_logits(load(tmp_path), oracle)


@pytest.mark.parametrize(
    ("architecture", "config", "message"),
    [
        (
            "BloomForCausalLM",
            {"apply_residual_connection_post_layernorm": True},
            "stream bypasses every norm",
        ),
        ("BloomForCausalLM", {"n_head": 0, "n_layer": 1}, r"heads=0: must be at least 1$"),
        ("MptForCausalLM", {"no_bias": False}, "no_bias=False: must be true$"),
        ("MptForCausalLM", {"norm_type": "rmsnorm"}, "norm_type='rmsnorm': must be "),
        ("MptForCausalLM", {"logit_scale": "inv_sqrt_d_model"}, "logit_scale is set: logits are not scaled"),
        ("MptForCausalLM", {"attn_config": {"alibi": False}}, "attn_config.alibi=False: must be true$"),
        ("MptForCausalLM", {"attn_config": {"qk_ln": True}}, "attn_config.qk_ln is set: "),
        ("MptForCausalLM", {"attn_config": {"prefix_lm": True}}, "attn_config.prefix_lm is set: "),
        ("MptForCausalLM", {"attn_config": {"attn_type": "multiquery_attention"}}, "attn_config.attn_type="),
        (
            "FalconForCausalLM",
            {"activation": "relu2", "num_hidden_layers": 1},
            "activation='relu2': must be ",
        ),
    ],
)
def test_what_the_families_lack_is_refused(
    architecture: str, config: dict[str, object], message: str
) -> None:
    sizes = {"vocab_size": 9, "hidden_size": 32, "n_layer": 1}
    heads = {"n_head": 2} if architecture != "MptForCausalLM" else {}
    with pytest.raises(UserError, match=rf"^config.json: .*{message}"):
        spec_of(architecture, **{**sizes, **heads, **config})


def test_a_backend_that_knows_no_slopes(tmp_path: Path) -> None:
    class Older(SdpaAttention):
        supports_alibi = False

    make_checkpoint("bloom", tmp_path)
    with pytest.raises(
        MissingCapability, match=r"^attention: Older lacks alibi, which BloomForCausalLM needs"
    ):
        load_model(
            str(tmp_path),
            architectures=ARCHITECTURES,
            attention=Older(config=SdpaConfig(), device="cpu"),
            ops=TorchOps(config=TorchOpsConfig(), device="cpu"),
            quantization=NoQuantization(config=NoQuantizationConfig(), device="cpu"),
            device="cpu",
        )
