"""Quantised checkpoints against float ones that hold the same values."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import VOCABULARY, make_checkpoint
from loading import load
from packed import PackedRun, ReferenceAttention, random_sequences
from packers import Packer, awq, gptq, int8, packed, quantise_checkpoint, scheme

from quire.errors import UserError
from quire.models.model import Model
from quire_plugins.quantization.w8a8 import W8A8, W8A8Config

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": False}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}

FORMATS: dict[str, tuple[Packer, dict[str, Any]]] = {
    "gptq": (gptq, GPTQ),
    "gptq_8": (partial(gptq, bits=8, g_idx=False), GPTQ | {"bits": 8}),
    "gptq_v2": (partial(gptq, shift=0), GPTQ | {"checkpoint_format": "gptq_v2"}),
    "awq": (awq, AWQ),
    "packed": (packed, scheme(4, "group", symmetric=False)),
    "packed_symmetric": (partial(packed, symmetric=True), scheme(4, "group", symmetric=True)),
    "packed_8": (partial(packed, bits=8, symmetric=True), scheme(8, "group", symmetric=True)),
    "packed_channel": (partial(packed, symmetric=True, group=96), scheme(4, "channel", symmetric=True)),
}


def logits(model: Model) -> torch.Tensor:
    sequences = random_sequences((1, 20, 9), vocabulary=VOCABULARY)
    return torch.cat(PackedRun(model, ReferenceAttention(), sequences).finish(16))


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_logits_as_its_values_in_float(name: str, tmp_path: Path) -> None:
    make_checkpoint("llama", tmp_path)
    packer, config = FORMATS[name]
    stored, floats = quantise_checkpoint(tmp_path, packer, config)
    expected = logits(load(floats))
    assert expected.std() > 0.5, "flat logits would hide differences"
    torch.testing.assert_close(logits(load(stored)), expected, atol=1e-3, rtol=1e-3)
    assert (logits(load(tmp_path)) - expected).abs().max() > 0.05, "quantising changed nothing: no test"


@pytest.mark.parametrize("family", ["qwen3_moe", "deepseek_v2"])
def test_experts_and_latents(family: str, tmp_path: Path) -> None:
    """What projects latents to keys and values is read as the floats that its integers stand for."""
    make_checkpoint(family, tmp_path)
    stored, floats = quantise_checkpoint(tmp_path, *FORMATS["packed_symmetric"])
    torch.testing.assert_close(logits(load(stored)), logits(load(floats)), atol=1e-3, rtol=1e-3)


def test_int8_activations(tmp_path: Path) -> None:
    """Stored as int8 by row, weights are what w8a8 makes of their values in float."""
    make_checkpoint("llama", tmp_path)
    config = scheme(8, "channel", symmetric=True, activations=True)
    stored, floats = quantise_checkpoint(tmp_path, int8, config)
    exact = logits(load(floats))
    w8a8 = W8A8(config=W8A8Config(skip=["head"]), device="cpu")
    expected = logits(load(floats, quantization=w8a8))
    error = (logits(load(stored)) - expected).std() / exact.std()
    assert error < 0.02
    assert 0.001 < (expected - exact).std() / exact.std() < 0.2


def test_quantising_twice_is_refused(tmp_path: Path) -> None:
    make_checkpoint("llama", tmp_path)
    stored, _ = quantise_checkpoint(tmp_path, *FORMATS["gptq"])
    with pytest.raises(UserError, match=r"quantised already .*4-bit .*quantization=none runs it"):
        load(stored, quantization=W8A8(config=W8A8Config(), device="cpu"))


def _edited(config: dict[str, Any], *path: str, value: Any) -> dict[str, Any]:
    first, *rest = path
    return config | {first: _edited(config[first], *rest, value=value) if rest else value}


GROUP_0 = ("config_groups", "group_0")
W4, W8 = scheme(4, "group", symmetric=True), scheme(8, "channel", symmetric=True, activations=True)
REFUSED = [
    (
        GPTQ | {"quant_method": "bitsandbytes"},
        "quant_method='bitsandbytes': must be gptq or awq",
    ),
    (GPTQ | {"bits": 3}, "quantization_config.bits=3: must be 4 or 8"),
    (GPTQ | {"desc_act": True}, "quantization_config.desc_act=True: must be false"),
    (GPTQ | {"checkpoint_format": "marlin"}, "checkpoint_format='marlin': must be gptq or gptq_v2"),
    (GPTQ | {"group_size": 0}, "group_size=0: must be -1 or an integer of at least 1"),
    (GPTQ | {"dynamic": {"-:lm_head": {}}}, "quantization_config.dynamic is set"),
    (AWQ | {"version": "gemv"}, "version='gemv': must be \"gemm\""),
    (AWQ | {"zero_point": False}, "zero_point=False: must be true"),
    (W4 | {"format": "float-quantized"}, "format='float-quantized': must be pack-quantized or int-quantized"),
    (_edited(W4, *GROUP_0, "weights", "actorder", value="group"), "weights.actorder='group': must be"),
    (_edited(W4, *GROUP_0, "weights", "num_bits", value=2), "weights.num_bits=2: must be 4 or 8"),
    (_edited(W4, *GROUP_0, "weights", "type", value="float"), "weights.type='float': must be int"),
    (_edited(W8, *GROUP_0, "input_activations", "dynamic", value=False), "dynamic=False: must be true"),
    (
        _edited(W8, *GROUP_0, "input_activations", "strategy", value="tensor"),
        "='tensor': must be token",
    ),
    (W4 | {"config_groups": {}}, "config_groups={}: must be an object of one group"),
]


@pytest.mark.parametrize(("config", "message"), REFUSED)
def test_what_is_not_read_is_named(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    make_checkpoint("llama", tmp_path)
    stored, _ = quantise_checkpoint(tmp_path, gptq, config)
    with pytest.raises(UserError) as refusal:
        load(stored)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_groups_by_activation_are_refused_by_their_tensor(tmp_path: Path) -> None:
    def shuffled(weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        tensors, floats = gptq(weight)
        return tensors | {"g_idx": tensors["g_idx"].flip(0)}, floats

    make_checkpoint("llama", tmp_path)
    stored, _ = quantise_checkpoint(tmp_path, shuffled, GPTQ)
    with pytest.raises(UserError, match=r"g_idx orders groups by activation"):
        load(stored)


def test_a_config_without_quantised_tensors_is_refused(tmp_path: Path) -> None:
    make_checkpoint("llama", tmp_path)
    stored, _ = quantise_checkpoint(tmp_path, lambda weight: ({"weight": weight}, weight), GPTQ)
    with pytest.raises(UserError, match=r"no tensor \*\.qweight"):
        load(stored)
