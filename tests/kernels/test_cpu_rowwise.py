"""The C++ kernels that work row by row, against the reference in float64."""

import pytest
import torch

from quire_kernels import cpu, reference

TOLERANCE = {
    torch.float32: {"rtol": 2e-6, "atol": 1e-6},
    torch.bfloat16: {"rtol": 5e-3, "atol": 1e-3},  # one rounding to 8 bits
}
pytestmark = pytest.mark.usefixtures("isa")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


def normal(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@DTYPES
@pytest.mark.parametrize("size", [1, 15, 64, 576, 577])
@pytest.mark.parametrize("unit_offset", [False, True])
def test_rms_norm(dtype, size, unit_offset):
    x, weight = normal(7, size, dtype=dtype), normal(size, dtype=dtype, seed=1)
    out, expected = torch.empty_like(x), torch.empty(7, size, dtype=torch.float64)
    cpu.rms_norm(x, weight, out, eps=1e-5, unit_offset=unit_offset)
    reference.rms_norm(x.double(), weight.double(), expected, eps=1e-5, unit_offset=unit_offset)
    torch.testing.assert_close(out.double(), expected, **TOLERANCE[dtype])


@DTYPES
def test_rms_norm_adds_the_residual_first(dtype):
    x, weight, residual = (normal(5, 96, dtype=dtype, seed=i) for i in range(3))
    weight = weight[0].contiguous()
    summed = (x.float() + residual.float()).to(dtype)
    out, expected = torch.empty_like(x), torch.empty(5, 96, dtype=torch.float64)
    cpu.rms_norm(x, weight, out, eps=1e-6, residual_TE=residual)
    reference.rms_norm(summed.double(), weight.double(), expected, eps=1e-6)
    assert torch.equal(residual, summed)
    torch.testing.assert_close(out.double(), expected, **TOLERANCE[dtype])


@DTYPES
def test_rms_norm_of_heads_in_place_inside_a_merged_projection(dtype):
    qkv = normal(300, 6, 32, dtype=dtype)
    before, weight = qkv.clone(), normal(32, dtype=dtype, seed=1)
    q = qkv[:, 1:4]
    cpu.rms_norm(q, weight, q, eps=1e-6)
    expected = torch.empty(300, 3, 32, dtype=torch.float64)
    reference.rms_norm(before[:, 1:4].double(), weight.double(), expected, eps=1e-6)
    torch.testing.assert_close(q.double(), expected, **TOLERANCE[dtype])
    assert torch.equal(qkv[:, 0], before[:, 0])
    assert torch.equal(qkv[:, 4:], before[:, 4:])


@DTYPES
@pytest.mark.parametrize(("head_dim", "dims"), [(64, 64), (64, 16), (80, 80), (96, 24), (20, 6)])
@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary(dtype, head_dim, dims, interleaved):
    qkv = normal(9, 7, head_dim, dtype=dtype)
    q, k = qkv[:, :4], qkv[:, 4:6]
    expected_q, expected_k = q.double(), k.double()
    v = qkv[:, 6].clone()
    positions = torch.tensor([0, 1, 2, 30, 31, 5, 5, 17, 9])
    cos_sin = normal(32, dims, seed=1)
    cpu.rotary(q, k, positions, cos_sin, interleaved=interleaved)
    reference.rotary(expected_q, expected_k, positions, cos_sin, interleaved=interleaved)
    torch.testing.assert_close(q.double(), expected_q, **TOLERANCE[dtype])
    torch.testing.assert_close(k.double(), expected_k, **TOLERANCE[dtype])
    assert torch.equal(qkv[:, 6], v)


@DTYPES
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
@pytest.mark.parametrize("size", [3, 64, 1001])
def test_act_mul(dtype, activation, size):
    gate_up = normal(6, 2 * size, dtype=dtype)
    gate_up[:, :size] *= 4
    gate_up[0, 0], gate_up[1, 0] = -150, 150
    out, expected = torch.empty(6, size, dtype=dtype), torch.empty(6, size, dtype=torch.float64)
    cpu.act_mul(gate_up, out, activation=activation)
    reference.act_mul(gate_up.double(), expected, activation=activation)
    torch.testing.assert_close(out.double(), expected, **TOLERANCE[dtype])


@DTYPES
@pytest.mark.parametrize("block_size", [16, 48])
def test_store_kv_writes_its_slots_and_no_other(dtype, block_size):
    kv_heads, head_dim, blocks = 3, 32, 4
    kv = normal(8, 2 * kv_heads, head_dim, dtype=dtype)
    k, v = kv[:, :kv_heads], kv[:, kv_heads:]
    slots = torch.tensor([0, block_size - 1, block_size, 2 * block_size + 3, 2 * block_size + 4, -1, 63, 5])
    caches = [
        torch.zeros(s, dtype=dtype)
        for s in cpu.kv_cache_shapes(blocks, kv_heads, block_size, head_dim, dtype)
    ]
    cpu.store_kv(k, v, *caches, slots)
    plain = reference.kv_cache_shapes(blocks, kv_heads, block_size, head_dim, dtype)
    expected = [torch.zeros(s, dtype=dtype) for s in plain]
    reference.store_kv(k, v, *expected, slots)
    k_cache, v_cache = caches
    if dtype == torch.bfloat16:  # [N, K, D / 2, B, 2] and [N, K, B / 2, D, 2]
        k_cache = k_cache.transpose(3, 4).flatten(2, 3)
        v_cache = v_cache.transpose(3, 4).flatten(2, 3)
    assert torch.equal(k_cache.transpose(2, 3), expected[0])
    assert torch.equal(v_cache, expected[1])


def test_mistakes_are_named():
    x = torch.randn(4, 16)
    with pytest.raises(ValueError, match="convert to bfloat16"):
        cpu.rms_norm(x.half(), torch.ones(16).half(), x.half(), eps=1e-5)
    with pytest.raises(ValueError, match="the length of weight_E is 15; it must be 16"):
        cpu.rms_norm(x, torch.ones(15), x, eps=1e-5)
    with pytest.raises(ValueError, match="activation 'relu' is unknown"):
        cpu.act_mul(x, torch.empty(4, 8), activation="relu")
    heads = torch.randn(2, 1, 16)
    with pytest.raises(ValueError, match=r"positions_T\[1\] is 8; it must be below 8"):
        cpu.rotary(heads, heads.clone(), torch.tensor([0, 8]), torch.randn(8, 16))
    caches = [torch.zeros(s) for s in cpu.kv_cache_shapes(2, 1, 16, 16, torch.float32)]
    with pytest.raises(ValueError, match=r"slots_T\[0\] is 32; it must be below 32"):
        cpu.store_kv(heads, heads, *caches, torch.tensor([32, 0]))
