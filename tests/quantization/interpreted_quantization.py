"""What `device=cuda` makes of a weight, with its kernels under the interpreter and tensors on the CPU."""

import pytest
import torch

from quire.interfaces import Quantization
from quire.interfaces.ops import Ops
from quire.testing import QuantizationSuite
from quire_plugins.ops.native import NativeOps, NativeOpsConfig
from quire_plugins.quantization.fp8 import Fp8, Fp8Config
from quire_plugins.quantization.none import NoQuantization, NoQuantizationConfig
from quire_plugins.quantization.w4a16 import W4A16, W4A16Config
from quire_plugins.quantization.w8a16 import W8A16, W8A16Config

PLUGINS = {
    "none": (NoQuantization, NoQuantizationConfig(), 1e-4),
    "w4a16": (W4A16, W4A16Config(), 0.15),
    "w4a16, symmetric": (W4A16, W4A16Config(group_size=32, symmetric=True), 0.15),
    "w8a16": (W8A16, W8A16Config(), 0.01),
    "fp8": (Fp8, Fp8Config(), 0.1),  # 4%, and as much again by the interpreter's rounding
}


@pytest.mark.parametrize("name", PLUGINS)
class TestOnTriton(QuantizationSuite):
    @pytest.fixture(autouse=True)
    def _chosen(self, name: str) -> None:
        self.kind, self.config, self.error = PLUGINS[name]

    def make(self) -> Quantization:
        return self.kind(config=self.config, device="cuda")

    def make_ops(self) -> Ops:
        return NativeOps(config=NativeOpsConfig(), device="cuda")


def test_experts_of_native_ops():
    weights = torch.randn(4, 24, 48, generator=torch.Generator().manual_seed(0))
    x_TI, ends = torch.randn(9, 48, generator=torch.Generator().manual_seed(1)), [2, 2, 8, 9]
    product = NativeOps(config=NativeOpsConfig(), device="cuda").grouped_linear(iter(weights))
    got = product(x_TI, torch.tensor(ends, dtype=torch.int32))
    parts = zip(weights.double(), [0, *ends], ends, strict=False)
    expected = torch.cat([x_TI[a:b].double() @ weight.T for weight, a, b in parts])
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
