"""The operations of a model against the reference kernels."""

import pytest
import torch

from quire.interfaces.ops import Activation, Ops
from quire_kernels import reference
from quire_plugins.ops.grouped import GroupedMM
from quire_plugins.ops.native import NativeOps, NativeOpsConfig
from quire_plugins.ops.torch_ops import TorchOps, TorchOpsConfig

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.fixture(params=["torch", "native"])
def ops(request: pytest.FixtureRequest) -> Ops:
    if request.param == "torch":
        return TorchOps(config=TorchOpsConfig(), device="cpu")
    return NativeOps(config=NativeOpsConfig(), device="cpu")


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


def random(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(dtype)


def assert_near(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert actual.dtype is expected.dtype
    tolerance = TOLERANCE[actual.dtype]
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_linear(ops: Ops, dtype: torch.dtype, biased: bool, rows: int) -> None:
    weight, x = random(48, 64, dtype=dtype) / 8, random(rows, 64, dtype=dtype)
    bias = random(48, dtype=dtype) if biased else None
    expected = x.float() @ weight.float().T + (0 if bias is None else bias.float())
    assert_near(ops.linear(weight.clone(), bias)(x), expected.to(dtype))


def test_head(ops: Ops, dtype: torch.dtype) -> None:
    table, x, ids = random(70, 32, dtype=dtype) / 6, random(3, 32, dtype=dtype), torch.tensor([69, 0, 64, 64])
    head = ops.head(table.clone())
    assert torch.equal(head.embed(ids), table[ids])
    logits = head.logits(x)
    assert logits.dtype is torch.float32
    torch.testing.assert_close(
        logits, x.float() @ table.float().T, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype]
    )


@pytest.mark.parametrize("counts", [[2, 0, 3, 1], [0, 0, 0, 5], [1, 0, 0, 0]])
def test_grouped_linear(ops: Ops, dtype: torch.dtype, counts: list[int]) -> None:
    weights, x = random(4, 16, 32, dtype=dtype) / 6, random(sum(counts), 32, dtype=dtype)
    groups = x.float().split(counts)
    expected = torch.cat([g @ w.float().T for g, w in zip(groups, weights, strict=True)]).to(dtype)
    ends = torch.tensor(counts).cumsum(0).to(torch.int32)
    assert_near(ops.grouped_linear(iter(weights.clone()))(x, ends), expected)
    assert_near(GroupedMM(iter(weights.clone()))(x, ends), expected)


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("unit_offset", [False, True])
def test_rms_norm(ops: Ops, dtype: torch.dtype, with_residual: bool, unit_offset: bool) -> None:
    x, weight = random(5, 96, dtype=dtype), random(96, dtype=dtype)
    residual = random(6, 96, dtype=dtype)[1:] if with_residual else None
    expected, expected_residual = torch.empty_like(x), None if residual is None else residual.clone()
    reference.rms_norm(x, weight, expected, eps=1e-5, residual_TE=expected_residual, unit_offset=unit_offset)
    actual = ops.rms_norm(x, weight, eps=1e-5, residual_TE=residual, unit_offset=unit_offset)
    assert_near(actual, expected)
    if residual is not None and expected_residual is not None:
        assert_near(residual, expected_residual)


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_layer_norm(ops: Ops, dtype: torch.dtype, with_residual: bool, biased: bool) -> None:
    x, weight = random(5, 96, dtype=dtype) + 3, random(96, dtype=dtype)
    bias = random(96, dtype=dtype) if biased else None
    residual = random(6, 96, dtype=dtype)[1:] if with_residual else None
    summed = x if residual is None else (x + residual)
    wide = summed.double() - summed.double().mean(-1, keepdim=True)
    expected = wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    expected = expected if bias is None else expected + bias.double()
    actual = ops.layer_norm(x, weight, bias, eps=1e-5, residual_TE=residual)
    assert_near(actual, expected.to(dtype))
    if residual is not None:
        assert_near(residual, summed)


def test_rms_norm_of_heads(ops: Ops, dtype: torch.dtype) -> None:
    """The heads are a slice of the joint q, k, v tensor."""
    x, weight = random(3, 6, 16, dtype=dtype)[:, 1:5], random(16, dtype=dtype)
    expected = torch.empty(3, 4, 16, dtype=dtype)
    reference.rms_norm(x, weight, expected, eps=1e-6)
    assert_near(ops.rms_norm(x, weight, eps=1e-6), expected)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dims", [32, 16])
def test_rotary(ops: Ops, dtype: torch.dtype, interleaved: bool, dims: int) -> None:
    qkv, table = random(4, 8, 32, dtype=dtype), random(50, dims, dtype=torch.float32)
    positions = torch.tensor([49, 0, 7, 7])
    expected = qkv.clone()
    parts = (4, 2, 2)
    reference.rotary(*expected.split(parts, dim=1)[:2], positions, table, interleaved=interleaved)
    ops.rotary(*qkv.split(parts, dim=1)[:2], positions, table, interleaved=interleaved)
    assert_near(qkv, expected)


@pytest.mark.parametrize("activation", Activation)
def test_act_mul(ops: Ops, dtype: torch.dtype, activation: Activation) -> None:
    gate_up = random(3, 80, dtype=dtype) * 3
    expected = torch.empty(3, 40, dtype=dtype)
    reference.act_mul(gate_up, expected, activation=activation.value)
    assert_near(ops.act_mul(gate_up, activation), expected)


def test_pairs_are_sorted_and_summed(ops: Ops, dtype: torch.dtype) -> None:
    chosen = torch.tensor([[3, 0], [0, 5], [3, 4], [0, 3]])
    pairs = ops.sort_pairs(chosen, experts=6)
    assert pairs.ends_X.dtype is torch.int32
    assert pairs.ends_X.tolist() == [3, 3, 3, 6, 7, 8]
    for expert, start, end in zip(range(6), [0, *pairs.ends_X.tolist()], pairs.ends_X.tolist(), strict=False):
        here = [token for token in range(4) if expert in chosen[token].tolist()]
        assert sorted(pairs.tokens_P[start:end].tolist()) == here
    assert torch.equal(pairs.tokens_P[pairs.places_Tk.flatten()], torch.arange(4).repeat_interleave(2))
    y, shares = random(8, 48, dtype=dtype), random(4, 2, dtype=torch.float32)
    expected = (y.float()[pairs.places_Tk] * shares[:, :, None]).sum(dim=1).to(dtype)
    assert_near(ops.sum_pairs(y, pairs.places_Tk, shares), expected)
