"""The elementwise oracles against formulas from other sources."""

import math

import pytest
import torch
from torch.nn import functional

from quire_kernels import reference


def test_store_kv_writes_its_slots_and_no_other():
    k_TKD, v_TKD = torch.randn(3, 2, 16), torch.randn(3, 2, 16)
    k_shape, v_shape = reference.kv_cache_shapes(4, 2, 16, 16, torch.float32)
    k_cache, v_cache = torch.zeros(k_shape), torch.zeros(v_shape)
    reference.store_kv(k_TKD, v_TKD, k_cache, v_cache, torch.tensor([17, -1, 63]))
    for cache, x_TKD in ((k_cache, k_TKD), (v_cache, v_TKD)):
        assert torch.equal(cache[1, :, 1], x_TKD[0])
        assert torch.equal(cache[3, :, 15], x_TKD[2])
        assert cache.count_nonzero() == 2 * 2 * 16


@pytest.mark.parametrize("unit_offset", [False, True])
def test_rms_norm_agrees_with_torch(unit_offset):
    x_TE, residual_TE, weight_E = torch.randn(5, 48), torch.randn(5, 48), torch.randn(48)
    summed_TE = x_TE + residual_TE
    out_TE = torch.empty_like(x_TE)
    reference.rms_norm(x_TE, weight_E, out_TE, eps=1e-5, residual_TE=residual_TE, unit_offset=unit_offset)
    weight_E = weight_E + 1 if unit_offset else weight_E
    torch.testing.assert_close(residual_TE, summed_TE)
    torch.testing.assert_close(out_TE, functional.rms_norm(summed_TE, (48,), weight_E, eps=1e-5))


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_is_a_complex_product(interleaved):
    head_dim, dims = 24, 16
    angles_Pr = torch.rand(32, dims // 2, dtype=torch.float64) * 2 * math.pi
    cos_sin_PR = torch.cat((angles_Pr.cos(), angles_Pr.sin()), dim=-1)
    positions_T = torch.tensor([3, 0, 31])
    x_THD = torch.randn(3, 2, head_dim, dtype=torch.float64)
    turned = x_THD[..., :dims]
    real, imag = (turned[..., 0::2], turned[..., 1::2]) if interleaved else turned.chunk(2, dim=-1)
    product = (
        torch.complex(real, imag) * torch.polar(torch.ones_like(angles_Pr), angles_Pr)[positions_T, None]
    )
    expected = x_THD.clone()
    if interleaved:
        expected[..., 0:dims:2], expected[..., 1:dims:2] = product.real, product.imag
    else:
        expected[..., : dims // 2], expected[..., dims // 2 : dims] = product.real, product.imag
    k_TKD = x_THD[:, :1].clone()
    reference.rotary(x_THD, k_TKD, positions_T, cos_sin_PR, interleaved=interleaved)
    torch.testing.assert_close(x_THD, expected)
    torch.testing.assert_close(k_TKD, expected[:, :1])


def test_act_mul():
    gate, up = torch.tensor([[-3.0, 0.0, 0.5]]), torch.tensor([[2.0, 5.0, -1.0]])
    gate_up, out = torch.cat((gate, up), dim=-1), torch.empty_like(up)
    reference.act_mul(gate_up, out, activation="silu")
    torch.testing.assert_close(out, gate / (1 + torch.exp(-gate)) * up)
    reference.act_mul(gate_up, out, activation="gelu_tanh")
    inner = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)
    torch.testing.assert_close(out, 0.5 * gate * (1 + torch.tanh(inner)) * up)
    with pytest.raises(ValueError, match="'relu' is unknown"):
        reference.act_mul(gate_up, out, activation="relu")


def test_sampling_follows_the_distribution_that_is_left():
    """The oracle of the kernel against probabilities worked out by hand: 8/15, 4/15, 2/15, 1/15."""
    logits_V = torch.tensor([2.0, 8.0, 1.0, 4.0, 0.0]).log()
    rows = 3000
    for options, expected in (
        ({}, {1: 8 / 15, 3: 4 / 15, 0: 2 / 15, 2: 1 / 15}),
        ({"top_k": 3}, {1: 8 / 14, 3: 4 / 14, 0: 2 / 14}),
        ({"top_p": 0.79}, {1: 8 / 12, 3: 4 / 12}),
        ({"top_p": 0.81}, {1: 8 / 14, 3: 4 / 14, 0: 2 / 14}),
        ({"min_p": 0.2}, {1: 8 / 14, 3: 4 / 14, 0: 2 / 14}),
        ({"temperature": 0.5}, {1: 64 / 85, 3: 16 / 85, 0: 4 / 85, 2: 1 / 85}),
        ({"temperature": 0.0}, {1: 1.0}),
    ):
        tokens_R = torch.empty(rows, dtype=torch.int64)
        reference.sample_tokens(
            logits_V.expand(rows, 5),
            tokens_R,
            temperatures_R=torch.full((rows,), options.get("temperature", 1.0)),
            top_ks_R=torch.full((rows,), options.get("top_k", 5), dtype=torch.int32),
            top_ps_R=torch.full((rows,), options.get("top_p", 1.0), dtype=torch.float64),
            min_ps_R=torch.full((rows,), options.get("min_p", 0.0), dtype=torch.float64),
            seeds_R=torch.arange(rows) - 5,
            positions_R=torch.arange(rows) * 7,
        )
        counts = torch.bincount(tokens_R, minlength=5) / rows
        wanted = torch.tensor([expected.get(token, 0.0) for token in range(5)])
        assert (counts[wanted == 0] == 0).all()
        torch.testing.assert_close(counts, wanted, rtol=0, atol=0.04)


def test_the_middle_of_a_layer_by_hand():
    """Complex products of normed heads; keys and values at their slots, queries in place."""
    q_THD, k_TKD, v_TKD = (torch.randn(3, heads, 6, dtype=torch.float64) for heads in (4, 2, 2))
    q_norm_D, k_norm_D = torch.rand(2, 6, dtype=torch.float64) + 0.5
    angles_P2 = torch.rand(9, 2, dtype=torch.float64)
    positions_T, slots_T = torch.tensor([0, 8, 3]), torch.tensor([5, -1, 0])
    expected = []
    for x, weight_D in ((q_THD, q_norm_D), (k_TKD, k_norm_D)):
        x = functional.rms_norm(x, (6,), weight_D, eps=1e-5)
        turns_T12 = torch.polar(torch.ones_like(angles_P2), angles_P2)[positions_T, None]
        turned = torch.complex(x[..., :2], x[..., 2:4]) * turns_T12
        expected.append(torch.cat([turned.real, turned.imag, x[..., 4:]], dim=-1))
    k_before_TKD = k_TKD.clone()
    k_cache, v_cache = (torch.zeros(2, 2, 4, 6, dtype=torch.float64) for _ in range(2))
    reference.rotate_store_kv(
        q_THD,
        k_TKD,
        v_TKD,
        k_cache,
        v_cache,
        slots_T,
        positions_T,
        torch.cat([angles_P2.cos(), angles_P2.sin()], dim=-1),
        q_norm_D=q_norm_D,
        k_norm_D=k_norm_D,
        eps=1e-5,
    )
    torch.testing.assert_close(q_THD, expected[0])
    assert torch.equal(k_TKD, k_before_TKD)
    torch.testing.assert_close(k_cache[1, :, 1], expected[1][0])
    torch.testing.assert_close(k_cache[0, :, 0], expected[1][2])
    torch.testing.assert_close(v_cache[0, :, 0], v_TKD[2])
    assert k_cache.count_nonzero() == v_cache.count_nonzero() == 2 * 2 * 6
