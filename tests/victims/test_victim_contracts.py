"""Every victim policy there is keeps the contract."""

import pytest

from quire.interfaces import VictimPolicy
from quire.registry import load_registry
from quire.testing import VictimSuite
from quire_plugins.predictors.oracle import Oracle, OracleConfig

REGISTRY = load_registry()


@pytest.mark.parametrize("name", REGISTRY.available("victim"))
class TestVictims(VictimSuite):
    @pytest.fixture(autouse=True)
    def _chosen(self, name: str) -> None:
        self.kind: type[VictimPolicy] = REGISTRY.get("victim", name)

    def make(self) -> VictimPolicy:
        parts = {"predictor": Oracle(config=OracleConfig(), seed=0)} if self.kind.uses_predictor else {}
        return self.kind(config=self.kind.Config(), **parts)
