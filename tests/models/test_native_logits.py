"""The native decoder against transformers: logits of every position, all float32 unless named."""

import json
from pathlib import Path

import pytest
import torch
from checkpoints import MAX_TOKENS, NATIVE, VOCABULARY, make_checkpoint
from loading import load
from packed import PackedRun, ReferenceAttention, random_sequences
from safetensors.torch import load_file, save_file
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
    "family",
    [
        "gemma2",
        "gemma3",
        "llama_tied_biased",
        "mixtral",
        "phi3_longrope",
        "qwen3",
        "deepseek_v2",
        "deepseek_v3",
    ],
)
def test_equal_with_native_ops(family: str, tmp_path: Path) -> None:
    oracle = make_checkpoint(family, tmp_path)
    ops = NativeOps(config=NativeOpsConfig(), device="cpu")
    assert_same_logits(load(tmp_path, ops=ops), oracle)


@pytest.mark.parametrize("family", ["mistral", "gemma3", "qwen3_moe", "deepseek_v3"])
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


@pytest.mark.parametrize("family", ["llama_llama3", "llama_yarn", "qwen3_moe_mixed", "deepseek_v2"])
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


def test_layers_for_further_tokens_are_left_out(tmp_path: Path) -> None:
    """DeepSeek-V3's files have one layer more, which predicts the token after the next."""
    oracle = make_checkpoint("deepseek_v3", tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    last = {name: x for name, x in tensors.items() if name.startswith("model.layers.2.")}
    further = {name.replace(".2.", ".3.", 1): x.clone() for name, x in last.items()}
    further |= {f"model.layers.3.{name}.weight": torch.zeros(4) for name in ("enorm", "eh_proj")}
    save_file(tensors | further, file, metadata={"format": "pt"})
    assert_same_logits(load(tmp_path), oracle)


def test_experts_of_a_model_in_bfloat16_are_chosen_in_float32(tmp_path: Path) -> None:
    """By a correction that files keep in float32, too."""
    make_checkpoint("deepseek_v3", tmp_path, dtype=torch.bfloat16)
    file, name = tmp_path / "model.safetensors", "model.layers.1.mlp.gate.e_score_correction_bias"
    # About a score of 1 bfloat16 has steps of 1/128: rounded to it, the correction would choose otherwise.
    correction = 1 + torch.rand(8, generator=torch.Generator().manual_seed(0)) / 100
    save_file(load_file(file) | {name: correction}, file, metadata={"format": "pt"})
    gate = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).model.layers[1].mlp.gate
    assert torch.equal(gate.e_score_correction_bias, correction)
    hidden = torch.randn(2000, 64, generator=torch.Generator().manual_seed(1)).bfloat16()
    # Scores near each other, so that the correction decides.
    with torch.no_grad():
        _, expected_shares, expected = gate(hidden / 100)
    chosen, shares = load(tmp_path)._blocks[1].mlp._router(hidden / 100)
    torch.testing.assert_close(_by_expert(chosen, shares), _by_expert(expected, expected_shares))
    rounded = gate.e_score_correction_bias.bfloat16().float()
    gate.e_score_correction_bias.copy_(rounded)
    with torch.no_grad():
        _, other_shares, other = gate(hidden / 100)
    assert not torch.equal(_by_expert(other, other_shares), _by_expert(expected, expected_shares))


def _by_expert(chosen: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(chosen), 8).scatter_(1, chosen, shares)
