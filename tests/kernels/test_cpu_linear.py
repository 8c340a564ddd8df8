"""The packed linear layer and the packed table against products in float64."""

import pytest
import torch

from quire_kernels import cpu

pytestmark = pytest.mark.usefixtures("isa")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
@pytest.mark.parametrize("rows", [0, 1, 2, 5, 64])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), [(72, 33), (73, 65), (1, 1), (64, 256)])
def test_product(dtype, rtol, rows, bias, inputs, outputs):
    x = torch.randn(rows, inputs + 8).to(dtype)[:, :inputs]
    weight = torch.randn(outputs, inputs).to(dtype)
    bias_O = torch.randn(outputs).to(dtype) if bias else None
    out = cpu.pack_linear(weight, bias_O)(x)
    expected = x.double() @ weight.double().T + (0 if bias_O is None else bias_O.double())
    assert out.dtype == dtype
    assert out.shape == (rows, outputs)
    torch.testing.assert_close(out.double(), expected, rtol=rtol, atol=20 * rtol)


@DTYPES
@pytest.mark.parametrize("outputs", [576, 100])
def test_a_row_is_the_same_bits_alone_in_a_batch_and_on_any_number_of_threads(dtype, outputs, threads):
    x = torch.randn(101, 1536).to(dtype)
    linear = cpu.pack_linear(torch.randn(outputs, 1536).to(dtype))
    threads(1)
    together = linear(x)
    for count in (1, 2, 3):
        threads(count)
        for rows in (1, 2, 3, 7, 17, 48, 49, 101):
            assert torch.equal(linear(x[:rows]), together[:rows])
        assert torch.equal(linear(x[60:]), together[60:])


@DTYPES
def test_a_table_gives_its_rows_and_unrounded_products(dtype):
    weight, x = torch.randn(131, 96).to(dtype), torch.randn(3, 96).to(dtype)
    table = cpu.PackedTable(weight)
    ids = torch.tensor([130, 0, 63, 64, 64])
    assert torch.equal(table.rows(ids), weight[ids])
    logits = table.logits(x)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.double(), x.double() @ weight.double().T, rtol=1e-5, atol=1e-4)


def test_weights_outlive_their_neighbours():
    """Packed weights share memory by the slab, which goes with the last of them."""
    weights = [torch.randn(64, 64) for _ in range(8)]
    packed = [cpu.pack_linear(weight) for weight in weights]
    for dropped in range(0, 8, 2):
        packed[dropped] = cpu.pack_linear(torch.randn(1000, 700))
    x = torch.randn(2, 64)
    for kept in range(1, 8, 2):
        torch.testing.assert_close(packed[kept](x), x @ weights[kept].T, rtol=1e-4, atol=1e-4)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="weight_OI is float16"):
        cpu.pack_linear(torch.randn(4, 4).half())
    with pytest.raises(ValueError, match="weight_OI has 1 dimensions"):
        cpu.pack_linear(torch.randn(4))
    linear = cpu.pack_linear(torch.randn(4, 16), torch.randn(4))
    with pytest.raises(ValueError, match="x_TI has 15 columns"):
        linear(torch.randn(2, 15))
    with pytest.raises(ValueError, match="the length of bias_O is 3; it must be 4"):
        cpu.pack_linear(torch.randn(4, 16), torch.randn(3))(torch.randn(2, 16))
    with pytest.raises(ValueError, match=r"rows_T\[1\] is 64; it must be below 64"):
        cpu.PackedTable(torch.randn(64, 16)).rows(torch.tensor([0, 64]))
