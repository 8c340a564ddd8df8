"""The packed linear layer against a product in float64."""

import pytest
import torch

from quire_kernels import cpu


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
@pytest.mark.parametrize("rows", [0, 1, 2, 5, 64])
@pytest.mark.parametrize("bias", [False, True])
def test_product(dtype, rtol, rows, bias):
    x = torch.randn(rows, 80).to(dtype)[:, :72]
    weight = torch.randn(33, 72).to(dtype)
    bias_O = torch.randn(33).to(dtype) if bias else None
    out = cpu.pack_linear(weight, bias_O)(x)
    expected = x.double() @ weight.double().T + (0 if bias_O is None else bias_O.double())
    assert out.dtype == dtype
    assert out.shape == (rows, 33)
    torch.testing.assert_close(out.double(), expected, rtol=rtol, atol=20 * rtol)


def test_a_row_is_the_same_bits_alone_and_in_a_batch():
    x = torch.randn(40, 1536)
    linear = cpu.pack_linear(torch.randn(64, 1536))
    together = linear(x)
    for rows in (1, 2, 3, 17):
        assert torch.equal(linear(x[:rows]), together[:rows])


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"weight_OI is torch\.float16"):
        cpu.pack_linear(torch.randn(4, 4).half())
    with pytest.raises(ValueError, match="weight_OI has 1 dimensions"):
        cpu.pack_linear(torch.randn(4))
