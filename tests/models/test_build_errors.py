"""What makes a model impossible to build is one clear line."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import make_checkpoint
from loading import ARCHITECTURES, load
from packed import ReferenceAttention

from quire.errors import MissingCapability, UserError
from quire.models.build import load_model
from quire.models.dtypes import resolve_dtype
from quire_plugins.ops.torch_ops import TorchOps, TorchOpsConfig
from quire_plugins.quantization.none import NoQuantization, NoQuantizationConfig


def change_config(directory: Path, **changes: Any) -> None:
    file = directory / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        (
            "llama",
            {"hidden_act": "relu"},
            r"config\.json: hidden_act='relu': must be silu or gelu_pytorch_tanh",
        ),
        ("llama", {"num_key_value_heads": 3}, "num_attention_heads=4: must be a multiple of"),
        ("llama", {"num_hidden_layers": 0}, "num_hidden_layers=0: must be at least 1"),
        (
            "llama",
            {"num_hidden_layers": 4},
            r"weights: 9 tensors \(layers\.3\.attention\.norm\.weight first\)",
        ),
        (
            "llama",
            {"num_hidden_layers": 2},
            r"weights: 9 tensors \(model\.layers\.2\..* first\) in the checkpoint",
        ),
        ("llama", {"tie_word_embeddings": "no"}, "tie_word_embeddings='no': must be true or false"),
        (
            "llama",
            {"quantization_config": {"bits": 4, "quant_method": "hqq"}},
            r"quantization_config.quant_method='hqq': must be gptq or awq or compressed-tensors",
        ),
        (
            "llama_tied_biased",
            {"attention_bias": False},
            r"weights: 12 tensors \(.*bias first\) in the checkpoint",
        ),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention is set"),
        ("qwen2", {"layer_types": ["linear_attention"] * 3}, "must be a list of full_attention or sliding"),
        ("deepseek_v2", {"norm_topk_prob": True}, "norm_topk_prob is set: the weights of this family's"),
        (
            "deepseek_v2",
            {"topk_method": "noaux_tc"},
            'topk_method=.* must be "greedy" or "group_limited_greedy"',
        ),
        ("deepseek_v2", {"num_key_value_heads": 2}, "num_key_value_heads=2: must be num_attention_heads, 4"),
        ("deepseek_v2", {"kv_lora_rank": 0}, "kv_lora_rank=0: must be at least 1"),
        ("deepseek_v2", {"mlp_bias": True}, "mlp_bias is set"),
        ("deepseek_v2", {"moe_layer_freq": 2}, "moe_layer_freq=2: must be 1"),
        ("deepseek_v2_groups", {"n_group": 4}, "n_group=4: must be a divisor of n_routed_experts, 6"),
        ("deepseek_v3", {"n_group": 8}, "n_group=8: must be a divisor .*, 8, with 2 or more in each"),
        (
            "deepseek_v3",
            {"topk_group": 1},
            "topk_group=1: must be at most n_group, 4, and enough for 3 experts",
        ),
        ("deepseek_v3", {"scoring_func": "softmax"}, 'scoring_func=.softmax.: must be "sigmoid"'),
        (
            "deepseek_v3",
            {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
            "quant_method='fp8': must be gptq or awq or compressed-tensors",
        ),
        (
            "llama",
            {"architectures": ["ElmanForCausalLM"]},
            "architecture ElmanForCausalLM is unknown; native are",
        ),
        (
            "llama",
            {"architectures": ["BertForMaskedLM"]},
            "architecture BertForMaskedLM is unknown; native are",
        ),
    ],
)
def test_wrong_checkpoint(family: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    make_checkpoint(family, tmp_path)
    change_config(tmp_path, **changes)
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_too_long(tmp_path: Path) -> None:
    make_checkpoint("llama", tmp_path)
    assert load(tmp_path, max_tokens=100).info.max_tokens == 100
    with pytest.raises(UserError, match=r"engine\.max_model_tokens=513: must be at most 512"):
        load(tmp_path, max_tokens=513)


class LimitedAttention(ReferenceAttention):
    supports_softcap = supports_latents = False
    dtypes = frozenset({"float32"})
    devices = frozenset({"cpu"})


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("gemma2", {}, "attention: LimitedAttention lacks softcap, which Gemma2ForCausalLM needs"),
        ("deepseek_v2", {}, "attention: LimitedAttention lacks latents, which DeepseekV2ForCausalLM needs"),
        (
            "llama",
            {"dtype": "bfloat16"},
            "attention: LimitedAttention lacks dtype=bfloat16; it offers float32",
        ),
        (
            "llama",
            {"device": "cuda"},
            "attention: LimitedAttention does not run on device=cuda; it runs on cpu",
        ),
    ],
)
def test_missing_capability(family: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    make_checkpoint(family, tmp_path)
    with pytest.raises(MissingCapability, match=message):
        load_model(
            str(tmp_path),
            architectures=ARCHITECTURES,
            attention=LimitedAttention(),
            ops=TorchOps(config=TorchOpsConfig(), device="cpu"),
            quantization=NoQuantization(config=NoQuantizationConfig(), device="cpu"),
            **{"device": "cpu", **options},
        )


def test_dtype(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert resolve_dtype("auto", declared="bfloat16", device="cpu") is torch.bfloat16
    assert resolve_dtype("auto", declared="torch.float16", device="cuda") is torch.float16
    assert resolve_dtype("auto", declared=None, device="cpu") is torch.float32
    assert resolve_dtype("float32", declared="bfloat16", device="cpu") is torch.float32
    assert not caplog.records
    assert resolve_dtype("auto", declared="float16", device="cpu") is torch.bfloat16
    assert len(caplog.records) == 1
    with pytest.raises(UserError, match=r"dtype=float16: .* must be auto, float32 or bfloat16"):
        resolve_dtype("float16", declared=None, device="cpu")
    with pytest.raises(UserError, match="dtype=half: must be auto, float32, bfloat16, float16"):
        resolve_dtype("half", declared=None, device="cpu")
    with pytest.raises(UserError, match=r"config\.json: dtype='int8'"):
        resolve_dtype("auto", declared="int8", device="cpu")
