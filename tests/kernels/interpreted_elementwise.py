"""The Triton norm, rotary embedding, activations and Gumbel noise under the interpreter.

It rounds bfloat16 wrongly.
"""

import pytest
import torch

from quire_kernels import reference
from quire_kernels import triton as kernels

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
# Both compute in float32 and round once: they may differ by the last bit of the type.
TOLERANCE = {
    torch.float32: {"rtol": 1e-6, "atol": 1e-6},
    torch.float16: {"rtol": 1e-3, "atol": 1e-6},
}


def normal(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@DTYPES
@pytest.mark.parametrize("shape", [(5, 576), (1, 4096), (3, 4, 64), (70, 16), (0, 32)])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("unit_offset", [False, True])
def test_rms_norm(dtype, shape, residual, unit_offset):
    x = normal(*shape, dtype=dtype)
    weight_E = normal(shape[-1], dtype=dtype, seed=1)
    residuals = [normal(*shape, dtype=dtype, seed=2) if residual else None for _ in range(2)]
    outs = [torch.full_like(x, float("nan")) for _ in range(2)]
    for ops, out, residual_TE in zip((kernels, reference), outs, residuals, strict=True):
        ops.rms_norm(x, weight_E, out, eps=1e-5, residual_TE=residual_TE, unit_offset=unit_offset)
    torch.testing.assert_close(*outs, **TOLERANCE[dtype])
    if residual:
        assert torch.equal(*residuals)


def test_rms_norm_of_a_slice_in_place():
    merged = normal(4, 10, 24, dtype=torch.float32)
    before = merged.clone()
    expected = torch.empty(4, 6, 24)
    weight_E = normal(24, dtype=torch.float32, seed=1)
    reference.rms_norm(merged[:, 2:8], weight_E, expected, eps=1e-6)
    kernels.rms_norm(merged[:, 2:8], weight_E, merged[:, 2:8], eps=1e-6)
    torch.testing.assert_close(merged[:, 2:8], expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(merged[:, :2], before[:, :2])
    assert torch.equal(merged[:, 8:], before[:, 8:])


@DTYPES
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "rotated"), [(9, 3, 64, 64), (4, 1, 80, 32), (70, 1, 96, 96)]
)
def test_rotary(dtype, interleaved, heads, kv_heads, head_dim, rotated):
    positions_T = torch.tensor([0, 3, 49, 3])
    angles = torch.outer(torch.arange(50.0), 0.7 ** torch.arange(rotated // 2))
    cos_sin_PR = torch.cat([angles.cos(), angles.sin()], dim=-1)
    merged = [normal(4, heads + 2 * kv_heads, head_dim, dtype=dtype) for _ in range(2)]
    for ops, qkv in zip((kernels, reference), merged, strict=True):
        q_THD, k_TKD = qkv[:, :heads], qkv[:, heads : heads + kv_heads]
        ops.rotary(q_THD, k_TKD, positions_T, cos_sin_PR, interleaved=interleaved)
    torch.testing.assert_close(*merged, **TOLERANCE[dtype])
    assert torch.equal(
        merged[0][:, heads + kv_heads :],
        normal(4, heads + 2 * kv_heads, head_dim, dtype=dtype)[:, heads + kv_heads :],
    )


@pytest.mark.filterwarnings(
    "ignore:overflow encountered in exp:RuntimeWarning"
)  # sigmoid(-100): 1 / (1 + inf)
@DTYPES
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
@pytest.mark.parametrize("shape", [(3, 1536), (1, 7), (2, 1024), (0, 8)])
def test_act_mul(dtype, activation, shape):
    tokens, size = shape
    gate_up = normal(tokens, 2 * size + 5, dtype=dtype)[:, : 2 * size] * 3
    outs = [torch.full((tokens, size), float("nan"), dtype=dtype) for _ in range(2)]
    for ops, out in zip((kernels, reference), outs, strict=True):
        ops.act_mul(gate_up, out, activation=activation)
    torch.testing.assert_close(*outs, **TOLERANCE[dtype])


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # of Philox, whose integers wrap
@pytest.mark.parametrize("rows", [3, 40], ids=["in parts", "whole"])
def test_gumbel_argmax(rows):
    logits_RV = 3 * normal(rows, 1500, dtype=torch.float32)
    generator = torch.Generator().manual_seed(1)
    parameters = {
        "temperatures_R": torch.tensor([1.0, 0.0, 0.5, 2.0] * rows)[:rows],
        "seeds_R": torch.randint(-(2**63), 2**63 - 1, (rows,), generator=generator),
        "positions_R": torch.randint(0, 2**40, (rows,), generator=generator),
    }
    drawn = [torch.full((rows,), -1) for _ in range(2)]
    for ops, tokens_R in zip((kernels, reference), drawn, strict=True):
        ops.gumbel_argmax(logits_RV, tokens_R, **parameters)
    assert torch.equal(*drawn)
