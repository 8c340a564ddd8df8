"""Rotary tables against transformers, for the parameters of published models."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, Phi3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from quire.errors import UserError
from quire.models.fields import Fields
from quire.models.rope import cos_sin_table
from quire.models.rope_config import read_rope

HEAD_DIM = 128
LLAMA_31 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
QWEN_25_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
DEEPSEEK_YARN = {
    "rope_type": "yarn",
    "factor": 40.0,
    "original_max_position_embeddings": 4096,
    "mscale": 0.707,
    "mscale_all_dim": 1.0,
}
NARROW_YARN = {"rope_type": "yarn", "factor": 2.0, "beta_fast": 1.0, "beta_slow": 1.0}
EXPLICIT_YARN = QWEN_25_YARN | {"attention_factor": 1.25}
PHI3_LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0 + i / 50 for i in range(HEAD_DIM // 2)],
    "long_factor": [1.0 + i for i in range(HEAD_DIM // 2)],
}


def fields(max_tokens: int, theta: float, scaling: dict[str, Any], **more: Any) -> Fields:
    return Fields(
        {"max_position_embeddings": max_tokens, "rope_theta": theta, "rope_scaling": scaling, **more}
    )


@pytest.mark.parametrize(
    ("max_tokens", "theta", "scaling"),
    [
        (131072, 500_000.0, LLAMA_31),
        (32768, 1e6, QWEN_25_YARN),
        (32768, 1e6, EXPLICIT_YARN),
        (163840, 1e4, DEEPSEEK_YARN),
        (4096, 1e4, NARROW_YARN),
        (16384, 1e4, {"rope_type": "linear", "factor": 4.0}),
        (4096, 1e4, {"rope_type": "dynamic", "factor": 4.0}),
    ],
)
def test_equal_to_transformers(max_tokens: int, theta: float, scaling: dict[str, Any]) -> None:
    config = LlamaConfig(
        hidden_size=2 * HEAD_DIM,
        num_attention_heads=2,
        max_position_embeddings=max_tokens,
        rope_parameters=scaling | {"rope_theta": theta},
    )
    expected, amplitude = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, torch.device("cpu"))
    rope = read_rope(fields(max_tokens, theta, scaling), head_dim=HEAD_DIM)
    torch.testing.assert_close(rope.frequencies(max_tokens), expected, rtol=1e-6, atol=0)
    assert rope.amplitude() == pytest.approx(amplitude)


@pytest.mark.parametrize("tokens", [4096, 4097])
def test_longrope_equals_transformers(tokens: int) -> None:
    config = Phi3Config(
        hidden_size=2 * HEAD_DIM,
        num_attention_heads=2,
        max_position_embeddings=131072,
        original_max_position_embeddings=4096,
        rope_parameters=PHI3_LONG | {"rope_theta": 1e4},
    )
    expected, amplitude = ROPE_INIT_FUNCTIONS["longrope"](config, torch.device("cpu"), seq_len=tokens)
    rope = read_rope(fields(131072, 1e4, PHI3_LONG, original_max_position_embeddings=4096), head_dim=HEAD_DIM)
    torch.testing.assert_close(rope.frequencies(tokens), expected, rtol=1e-6, atol=0)
    assert rope.amplitude() == pytest.approx(amplitude)
    assert (rope.default_tokens, rope.max_tokens) == (4096, 131072)


def test_table_rows_are_cosines_then_sines() -> None:
    rope = read_rope(fields(64, 100.0, {}, partial_rotary_factor=0.5), head_dim=8)
    table = cos_sin_table(rope, tokens=3, device="cpu")
    angles = [2.0, 0.2]  # position 2; the pairs of the first 4 of 8 dimensions turn by 1 and 1/10 a token
    expected = torch.tensor([*(torch.tensor(angles).cos()), *(torch.tensor(angles).sin())])
    torch.testing.assert_close(table[2], expected)
    assert table.shape == (3, 4)


def test_yarn_stretches_the_limit() -> None:
    assert read_rope(fields(32768, 1e6, QWEN_25_YARN), head_dim=HEAD_DIM).max_tokens == 131072


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"rope_type": "spiral"}, r"rope_scaling\.rope_type='spiral': must be default or linear or"),
        ({"type": "mrope"}, r"rope_scaling\.type='mrope': must be default or linear or"),
        ({"rope_type": "linear"}, r"rope_scaling\.factor is missing"),
        ({"rope_type": "linear", "factor": "4"}, r"rope_scaling\.factor='4': must be a number"),
        (
            {"rope_type": "longrope", "short_factor": [1.0]},
            r"rope_scaling\.short_factor has 1 numbers: must have 4",
        ),
    ],
)
def test_mistakes(scaling: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_rope(fields(64, 1e4, scaling), head_dim=8)
