"""Every cost model there is keeps the contract."""

import pytest

from quire.registry import load_registry
from quire.testing import CostModelSuite

REGISTRY = load_registry()


@pytest.mark.parametrize("name", REGISTRY.available("cost_model"))
class TestCostModels(CostModelSuite):
    @pytest.fixture(autouse=True)
    def _chosen(self, name: str) -> None:
        self.kind = REGISTRY.get("cost_model", name)

    def fit(self, shapes, seconds):
        return self.kind.fit(config=self.kind.Config(), shapes=shapes, seconds=seconds)

    def restore(self, parameters):
        return self.kind(config=self.kind.Config(), parameters=parameters)
