"""Every way to hold weights keeps the contract."""

import pytest

from quire.interfaces import Quantization
from quire.registry import load_registry
from quire.testing import QuantizationSuite

REGISTRY = load_registry()
ERRORS = {"none": 1e-5, "w8a8": 0.03, "w8a16": 0.01, "w4a16": 0.15}
ON_A_CPU = [name for name, kind in REGISTRY.available("quantization").items() if "cpu" in kind.devices]


@pytest.mark.parametrize("name", ON_A_CPU)
class TestQuantizations(QuantizationSuite):
    @pytest.fixture(autouse=True)
    def _chosen(self, name: str) -> None:
        self.kind = REGISTRY.get("quantization", name)
        self.error = ERRORS[name]

    def make(self) -> Quantization:
        return self.kind(config=self.kind.Config(), device="cpu")
