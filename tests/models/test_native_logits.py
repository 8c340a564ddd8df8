"""The native decoder against transformers: logits of every position, all float32 unless named."""

import json
from pathlib import Path

import pytest
import torch
from checkpoints import MAX_TOKENS, NATIVE, VOCABULARY, make_checkpoint
from loading import load
from packed import PackedRun, ReferenceAttention, random_sequences
from transformers import AutoModelForCausalLM, PreTrainedModel

import quire
from quire.models.model import Model
from quire_plugins.ops.native import NativeOps, NativeOpsConfig

LENGTHS = (1, 40, 17, 90)


def oracle_logits(oracle: PreTrainedModel, sequence: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return oracle(torch.tensor([sequence])).logits[0].float()


def assert_same_logits(
    model: Model, oracle: PreTrainedModel, *, lengths: tuple[int, ...] = LENGTHS, chunk: int = 33
) -> None:
    sequences = random_sequences(lengths, vocabulary=VOCABULARY)
    run = PackedRun(model, ReferenceAttention(), sequences)
    for logits, sequence in zip(run.finish(chunk), sequences, strict=True):
        expected = oracle_logits(oracle, sequence)
        assert expected.std() > 0.5, "flat logits would hide differences"
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", NATIVE)
def test_equal_to_transformers(family: str, tmp_path: Path) -> None:
    oracle = make_checkpoint(family, tmp_path)
    assert_same_logits(load(tmp_path), oracle)


@pytest.mark.parametrize(
    "family", ["gemma2", "gemma3", "llama_tied_biased", "mixtral", "phi3_longrope", "qwen3"]
)
def test_equal_with_native_ops(family: str, tmp_path: Path) -> None:
    oracle = make_checkpoint(family, tmp_path)
    ops = NativeOps(config=NativeOpsConfig(), device="cpu")
    assert_same_logits(load(tmp_path, ops=ops), oracle)


@pytest.mark.parametrize("family", ["mistral", "gemma3", "qwen3_moe"])
@pytest.mark.parametrize("chunk", [1, 7])
def test_chunks_change_nothing(family: str, chunk: int, tmp_path: Path) -> None:
    oracle = make_checkpoint(family, tmp_path)
    assert_same_logits(load(tmp_path), oracle, lengths=(3, 30, 23), chunk=chunk)


def test_demo_model() -> None:
    model = load("demo", dtype="float32")
    directory = Path(quire.__file__).parent / "demo_model"
    oracle = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    assert_same_logits(model, oracle)


def test_shards(tmp_path: Path) -> None:
    oracle = make_checkpoint("llama_tied_biased", tmp_path, shard_size="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert_same_logits(load(tmp_path), oracle)


def test_checkpoint_type_is_kept(tmp_path: Path) -> None:
    oracle = make_checkpoint("gemma2", tmp_path, dtype=torch.bfloat16)
    model = load(tmp_path)
    assert model.dtype is torch.bfloat16
    (sequence,) = random_sequences([50], vocabulary=VOCABULARY)
    (logits,) = PackedRun(model, ReferenceAttention(), [sequence]).finish(50)
    expected = oracle_logits(oracle, sequence)
    assert logits.dtype is torch.float32
    assert (logits - expected).norm() / expected.norm() < 0.05


@pytest.mark.parametrize("family", ["llama_llama3", "llama_yarn", "qwen3_moe_mixed"])
def test_old_rope_fields(family: str, tmp_path: Path) -> None:
    """Before transformers 5, config.json had rope_theta and rope_scaling, with its type under "type"."""
    oracle = make_checkpoint(family, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    scaling = config.pop("rope_parameters")
    config["rope_theta"] = scaling.pop("rope_theta")
    scaling["type"] = scaling.pop("rope_type")
    config["rope_scaling"] = None if scaling["type"] == "default" else scaling
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_same_logits(load(tmp_path), oracle)


def test_old_gemma3_fields(tmp_path: Path) -> None:
    oracle = make_checkpoint("gemma3_linear", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    nested = config.pop("rope_parameters")
    config["rope_theta"] = nested["full_attention"].pop("rope_theta")
    config["rope_scaling"] = nested["full_attention"]
    config["rope_local_base_freq"] = nested["sliding_attention"]["rope_theta"]
    config["sliding_window_pattern"] = 3
    del config["layer_types"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_same_logits(load(tmp_path), oracle)


def test_long_context_takes_the_long_factors(tmp_path: Path) -> None:
    oracle = make_checkpoint("phi3_longrope", tmp_path)
    assert load(tmp_path).info.max_tokens == MAX_TOKENS // 2
    model = load(tmp_path, max_tokens=MAX_TOKENS)
    assert model.info.max_tokens == MAX_TOKENS
    assert_same_logits(model, oracle, lengths=(MAX_TOKENS // 2 + 20,), chunk=MAX_TOKENS)


def test_only_the_rows_asked_for(tmp_path: Path) -> None:
    oracle = make_checkpoint("gemma3", tmp_path)
    model = load(tmp_path)
    sequences = random_sequences([20, 30], vocabulary=VOCABULARY)
    run = PackedRun(model, ReferenceAttention(), sequences)
    assert run.step([10, 8], logit_rows=[]).shape == (0, VOCABULARY)
    logits = run.step([10, 22], logit_rows=[31, 9])
    torch.testing.assert_close(logits[0], oracle_logits(oracle, sequences[1])[-1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits[1], oracle_logits(oracle, sequences[0])[-1], atol=1e-4, rtol=1e-4)


def test_layers_are_grouped_by_window(tmp_path: Path) -> None:
    make_checkpoint("gemma3", tmp_path)
    assert [layer.group for layer in load(tmp_path).layers] == [0, 1, 0]
    # No sequence of 16 tokens outgrows a window of 16: all layers then share their blocks.
    assert [layer.window for layer in load(tmp_path, max_tokens=16).layers] == [None] * 3
    assert [layer.group for layer in load(tmp_path, max_tokens=16).layers] == [0, 0, 0]
