"""Products with integer weights: each instruction set against the reference."""

import pytest
import torch

from quire_kernels import cpu, reference

SHAPES = [(1, 48, 4), (3, 50, 7), (8, 96, 64), (9, 100, 33), (64, 130, 72), (70, 47, 130)]
GROUPED = [
    (1, 48, 64, 64),
    (3, 50, 24, 8),
    (9, 96, 64, 128),
    (70, 47, 136, 32),
    (5, 60, 77, 64),
    (2, 50, 300, 256),
    (25, 49, 1100, 64),  # more than a tile holds, for rows that are many
    (200, 48, 40, 24),  # more rows than a work item has
]
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 4e-3}


def int8_problem(rows: int, outputs: int, inputs: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    x = torch.randn(rows, inputs + 3).to(dtype)[:, :inputs]
    values = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)
    return x, values, torch.rand(outputs) + 0.1, torch.randn(outputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("isa")
def test_int8(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    x, values, scales, bias = int8_problem(*shape, dtype)
    for given in (None, bias):
        out = cpu.Int8Linear(values, scales, given)(x)
        assert out.dtype == dtype
        expected = reference.int8_linear(x, values, scales, given)
        torch.testing.assert_close(out.float(), expected, rtol=TOLERANCE[dtype], atol=1e-4)


@pytest.mark.usefixtures("isa")
def test_int8_of_extreme_rows() -> None:
    """All at the ends of the range, zeros, the smallest numbers, ties, and what is not finite."""
    values = torch.full((50, 260), -127, dtype=torch.int8)
    ties = torch.arange(-127, 133).clamp(max=127) - torch.tensor(0.5)
    x = torch.stack([torch.full((260,), 1e30), torch.zeros(260), torch.full((260,), 1e-42), ties.clamp(-127)])
    scales = torch.ones(50)
    torch.testing.assert_close(
        cpu.Int8Linear(values, scales, None)(x), reference.int8_linear(x, values, scales), rtol=1e-6, atol=0
    )
    for poison in (float("nan"), float("inf")):
        spoiled = torch.ones(2, 260)
        spoiled[1, 7] = poison
        out = cpu.Int8Linear(values, scales, None)(spoiled)
        assert out[0].isfinite().all()
        assert out[1].isnan().all()


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", GROUPED)
@pytest.mark.usefixtures("isa")
def test_groupwise(shape: tuple[int, int, int, int], dtype: torch.dtype, bits: int, zeros: bool) -> None:
    rows, outputs, inputs, group = shape
    groups = -(-inputs // group)
    x = torch.randn(rows, inputs + 3).to(dtype)[:, :inputs]
    values = torch.randint(0, 1 << bits, (outputs, inputs), dtype=torch.uint8)
    scales = torch.rand(outputs, groups) + 0.1
    zeros_OG = torch.randint(0, 1 << bits, (outputs, groups), dtype=torch.uint8) if zeros else None
    for bias in (None, torch.randn(outputs)):
        parts = (values, scales, zeros_OG, bias)
        out = cpu.GroupwiseLinear(*parts, bits=bits, group_size=group)(x)
        assert out.dtype == dtype
        expected = reference.groupwise_linear(x, *parts, bits=bits, group_size=group)
        # Sums of many products that cancel: an error of the size of what was summed.
        torch.testing.assert_close(
            out.double(), expected, rtol=TOLERANCE[dtype], atol=2e-6 * expected.abs().max().item() + 1e-4
        )


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.usefixtures("isa")
def test_a_group_is_exact_at_the_ends_of_the_range(bits: int) -> None:
    """Values less zeros go from -(2 ** bits - 1) to 2 ** bits - 1, all of which bfloat16 has to hold."""
    last = (1 << bits) - 1
    ends = torch.tensor([0, last], dtype=torch.uint8)
    values, zeros = ends.repeat_interleave(32)[:, None].repeat(1, 64), ends.repeat(32)[:, None]
    product = cpu.GroupwiseLinear(values, torch.ones(64, 1), zeros, None, bits=bits, group_size=64)
    expected = 64 * (values[:, 0].float() - zeros[:, 0].float())
    assert torch.equal(product.in_float32(torch.ones(1, 64).bfloat16())[0], expected)
    assert set(expected.tolist()) == {0.0, 64.0 * last, -64.0 * last}


def products() -> dict[str, tuple[cpu.Int8Linear | cpu.GroupwiseLinear, int]]:
    _, values, scales, bias = int8_problem(1, 90, 1100, torch.float32)
    grouped = torch.randint(0, 16, (90, 1100), dtype=torch.uint8)
    zeros = torch.randint(0, 16, (90, 18), dtype=torch.uint8)
    return {
        "int8": (cpu.Int8Linear(values, scales, bias), 1100),
        "int4": (cpu.GroupwiseLinear(grouped, torch.rand(90, 18), zeros, bias, bits=4, group_size=64), 1100),
    }


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_row_is_the_same_bits_alone_in_a_batch_and_for_any_number_of_threads(kind: str) -> None:
    product, inputs = products()[kind]
    x = torch.randn(400, inputs).bfloat16()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = product(x)
        torch.set_num_threads(2)
        assert torch.equal(product(x), one)
        for rows in (*range(1, 14), 24, 25, 64, 65, 200):
            assert torch.equal(product(x[:rows]), one[:rows])
        torch.set_num_threads(9)  # more than there are panels: rows are shared out as well
        assert torch.equal(product(x), one)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_float32_of_bfloat16_rows(kind: str) -> None:
    product, inputs = products()[kind]
    x = torch.randn(5, inputs).bfloat16()
    wide = product.in_float32(x)
    assert wide.dtype == torch.float32
    assert not torch.equal(wide, wide.bfloat16().float())
    assert torch.equal(wide.bfloat16(), product(x))
    assert product(x[:0]).shape == (0, 90)


def test_mistakes_are_named() -> None:
    product, inputs = products()["int8"]
    with pytest.raises(ValueError, match="weight is"):
        product(torch.randn(2, inputs + 8))
    with pytest.raises(ValueError, match="x_TI is float16"):
        product(torch.randn(2, inputs).half())
    values = torch.zeros(4, 64, dtype=torch.uint8)
    with pytest.raises(ValueError, match="bits is 3; allowed: 4, 8"):
        cpu.GroupwiseLinear(values, torch.ones(4, 1), None, None, bits=3, group_size=64)
    with pytest.raises(ValueError, match="group_size is 12; it must be a multiple of 8"):
        cpu.GroupwiseLinear(values, torch.ones(4, 6), None, None, bits=4, group_size=12)
