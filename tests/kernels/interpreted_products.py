"""The Triton matrix products under the interpreter, against float64."""

import pytest
import torch

from quire_kernels import reference
from quire_kernels import triton as kernels
from quire_kernels.triton import fp8, groupwise

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
# Sums are of float32; only the result is rounded to the type.
TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 1e-4}, torch.float16: {"rtol": 1e-3, "atol": 1e-2}}


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def integers(rows: int, columns: int, *, bits: int, group: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Random values, scales and zeros of a weight."""
    generator = torch.Generator().manual_seed(seed)
    groups = -(-columns // group)
    values_OI = torch.randint(0, 1 << bits, (rows, columns), generator=generator, dtype=torch.uint8)
    scales_OG = torch.rand(rows, groups, generator=generator) + 0.1
    zeros_OG = torch.randint(0, 1 << bits, (rows, groups), generator=generator, dtype=torch.uint8)
    return values_OI, scales_OG, zeros_OG


@pytest.mark.parametrize(
    ("bits", "group_size", "zeros", "dtype"),
    [
        (4, 32, True, torch.float16),
        (4, 64, False, torch.float16),
        (4, 128, True, torch.float32),
        (8, 64, False, torch.float32),
        (8, 256, True, torch.float16),
        (8, 10_000, True, torch.float32),
    ],
)
def test_groupwise_linear(bits, group_size, zeros, dtype):
    values_OI, scales_OG, zeros_OG = integers(70, 200, bits=bits, group=group_size)
    zeros_OG = zeros_OG if zeros else None
    bias_O = normal(70, dtype=dtype, seed=2) if zeros else None
    x_TI = normal(5, 200, dtype=dtype, seed=1)
    linear = kernels.GroupwiseLinear(values_OI, scales_OG, zeros_OG, bias_O, bits=bits, group_size=group_size)
    expected = reference.groupwise_linear(
        x_TI, values_OI, scales_OG, zeros_OG, bias_O, bits=bits, group_size=group_size
    )
    scale = expected.abs().max()
    for out in (linear(x_TI), linear.in_float32(x_TI)):
        torch.testing.assert_close(out.double() / scale, expected / scale, **TOLERANCE[dtype])
    assert linear(x_TI).dtype == dtype
    exact = linear.in_float32(x_TI).double()  # the integers are exact, whatever the type of x
    torch.testing.assert_close(exact / scale, expected / scale, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shares", [1, 3, 11])
def test_shares_of_the_inputs_are_added_up(monkeypatch, shares):
    dtype = torch.float16
    values_OI, scales_OG, zeros_OG = integers(40, 450, bits=4, group=64)
    bias_O = normal(40, dtype=dtype, seed=2)
    x_TI = normal(3, 450, dtype=dtype, seed=1)
    options = {"bits": 4, "group_size": 64}
    expected = reference.groupwise_linear(x_TI, values_OI, scales_OG, zeros_OG, bias_O, **options)
    linear = kernels.GroupwiseLinear(values_OI, scales_OG, zeros_OG, bias_O, **options)
    monkeypatch.setattr(groupwise, "count_shares", lambda *_, **__: shares)
    out = linear(x_TI).double() / expected.abs().max()
    torch.testing.assert_close(out, expected / expected.abs().max(), **TOLERANCE[dtype])


def test_no_tokens_no_launch():
    linear = kernels.GroupwiseLinear(*integers(8, 32, bits=4, group=32), None, bits=4, group_size=32)
    assert linear(normal(0, 32)).shape == (0, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 3, "group_size": 64}, "bits is 3; allowed: 4, 8"),
        ({"bits": 4, "group_size": 48}, "group_size is 48; allowed: 32, 64, a multiple of 128, or the whole"),
    ],
)
def test_weights_that_the_kernel_lacks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        kernels.pack_groups(torch.zeros(8, 96, dtype=torch.uint8), torch.ones(8, 2), None, **options)


ENDS = [[0, 5, 5, 40], [3, 3, 3, 3], [1, 2, 3, 4], [0, 0, 0, 70], [17, 34, 51, 68]]


@pytest.mark.parametrize("ends", ENDS)
def test_grouped_linear(ends):
    dtype = torch.float32 if sum(ends) % 2 else torch.float16
    rows = ends[-1] + 3  # the last of them are nobody's
    x_TI, weight_XOI = normal(rows, 50, dtype=dtype), normal(4, 40, 50, dtype=dtype, seed=1)
    ends_X = torch.tensor(ends, dtype=torch.int32)
    out_TO = torch.full((rows, 40), float("nan"), dtype=dtype)
    kernels.grouped_linear(x_TI, weight_XOI, ends_X, out_TO)
    expected = torch.full((rows, 40), float("nan"), dtype=torch.float64)
    reference.grouped_linear(x_TI.double(), weight_XOI.double(), ends_X, expected)
    torch.testing.assert_close(out_TO.double(), expected, equal_nan=True, **TOLERANCE[dtype])
    assert out_TO[ends[-1] :].isnan().all()


@pytest.mark.parametrize("ends", ENDS[:2])
def test_experts_with_integer_weights(ends):
    weights = [integers(40, 96, bits=4, group=32, seed=expert) for expert in range(4)]
    options = {"bits": 4, "group_size": 32}
    multiply = kernels.GroupedGroupwiseLinear([kernels.pack_groups(*each, **options) for each in weights])
    x_TI = normal(ends[-1], 96, dtype=torch.float16)
    out_TO = multiply(x_TI, torch.tensor(ends, dtype=torch.int32))
    for weight, start, end in zip(weights, [0, *ends], ends, strict=False):
        expected = reference.groupwise_linear(x_TI[start:end], *weight, None, **options)
        torch.testing.assert_close(out_TO[start:end].double(), expected, rtol=1e-3, atol=0.05)


def test_bfloat16_is_refused_under_the_interpreter():
    x_TI = normal(2, 32, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="x_TI has dtype bfloat16, which Triton's interpreter"):
        kernels.grouped_linear(x_TI, x_TI[None], torch.tensor([2], dtype=torch.int32), x_TI[:, :2])


@DTYPES
def test_rows_in_fp8(dtype):
    x_TI = normal(9, 2100, dtype=dtype)
    x_TI[1] = 0
    x_TI[2, 5] *= 1000
    x_TI[3, 2] = float("inf")
    x_TI[4, 1] = float("nan")
    values_TI, scales_T = kernels.quantise_rows_fp8(x_TI)
    expected_TI, expected_T = reference.quantise_rows_fp8(x_TI)
    torch.testing.assert_close(scales_T, expected_T, rtol=1e-6, atol=0, equal_nan=True)
    assert scales_T[3:5].isnan().all()
    assert values_TI.dtype == torch.float8_e4m3fn
    # Triton's interpreter loses the carry where a value is rounded up to the next power of two, and comes to
    # half of it. Besides, a last bit of the product with the factor may fall to the other side of a border.
    values, expected = values_TI.float(), expected_TI.float()
    carry = (values * 2 == expected) & (expected.abs().log2() % 1 == 0)
    assert carry.float().mean() < 0.05
    differ = ~carry & (values != expected)
    assert differ.float().mean() < 5e-3
    torch.testing.assert_close(values[~carry], expected[~carry], rtol=0.15, atol=2**-8)


@pytest.mark.parametrize(("shares", "dtype"), [(1, torch.float16), (3, torch.float32)])
def test_fp8_linear(monkeypatch, dtype, shares):
    monkeypatch.setattr(fp8, "count_shares", lambda *_, **__: shares)
    x, weight = (reference.quantise_rows_fp8(normal(rows, 300, seed=rows)) for rows in (20, 70))
    for bias_O in (None, normal(70, dtype=dtype)):
        out_TO, expected = torch.full((20, 70), float("nan"), dtype=dtype), torch.empty(20, 70).double()
        kernels.fp8_linear(*x, *weight, bias_O, out_TO)
        reference.fp8_linear(*x, *weight, bias_O, expected)
        torch.testing.assert_close(out_TO.double(), expected, **TOLERANCE[dtype])


@pytest.mark.parametrize("ends", ENDS)
def test_experts_in_fp8(ends):
    rows = ends[-1] + 3  # the last of them are nobody's
    x = reference.quantise_rows_fp8(normal(rows, 300))
    weight_XOI, weight_scales_XO = map(
        torch.stack,
        zip(*(reference.quantise_rows_fp8(normal(70, 300, seed=g)) for g in range(4)), strict=True),
    )
    ends_X = torch.tensor(ends, dtype=torch.int32)
    out_TO, expected = (
        torch.full((rows, 70), float("nan"), dtype=dtype) for dtype in (torch.float32, torch.float64)
    )
    kernels.grouped_fp8_linear(*x, weight_XOI, weight_scales_XO, ends_X, out_TO)
    reference.grouped_fp8_linear(*x, weight_XOI, weight_scales_XO, ends_X, expected)
    torch.testing.assert_close(out_TO.double(), expected, equal_nan=True, **TOLERANCE[torch.float32])
    assert out_TO[ends[-1] :].isnan().all()


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_rows_that_are_not_numbers_spoil_no_others():
    """What fills up a graph may be anything, and lies in one tile with the rows of sequences."""
    x_TI, weight_XOI = normal(6, 96, dtype=torch.float16), normal(2, 40, 96, dtype=torch.float16, seed=1)
    broken_TI = x_TI.clone()
    broken_TI[[1, 4]] = torch.tensor([[float("nan")], [float("inf")]], dtype=torch.float16)
    ends_X = torch.tensor([3, 6], dtype=torch.int32)
    whole_TO, spoilt_TO = x_TI.new_empty(6, 40), x_TI.new_empty(6, 40)
    kernels.grouped_linear(x_TI, weight_XOI, ends_X, whole_TO)
    kernels.grouped_linear(broken_TI, weight_XOI, ends_X, spoilt_TO)
    kept = [0, 2, 3, 5]
    assert torch.equal(spoilt_TO[kept], whole_TO[kept])


def test_experts_that_are_packed_differently_are_refused():
    def pack(bits, group, zeros):
        values_OI, scales_OG, zeros_OG = integers(40, 96, bits=bits, group=group)
        return kernels.pack_groups(
            values_OI, scales_OG, zeros_OG if zeros else None, bits=bits, group_size=group
        )

    first = pack(4, 32, True)
    with pytest.raises(ValueError, match="experts have 4 bits in groups of 32 and 8 bits in groups of 32"):
        kernels.GroupedGroupwiseLinear([first, pack(8, 32, True)])
    with pytest.raises(ValueError, match="some experts have zeros and others none"):
        kernels.GroupedGroupwiseLinear([first, pack(4, 32, False)])


def test_a_linear_layer_in_fp8_is_near_the_exact_one():
    weight_OI, bias_O, x_TI = normal(70, 256, seed=1), normal(70, seed=2), normal(6, 256)
    linear = kernels.Fp8Linear(weight_OI, bias_O)
    expected = x_TI.double() @ weight_OI.double().T + bias_O.double()
    for out in (linear(x_TI), linear.in_float32(x_TI)):
        # 4%, and as much again by the interpreter's rounding
        assert (out.double() - expected).norm() / expected.norm() < 0.1
