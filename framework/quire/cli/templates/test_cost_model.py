"""`NewPlugin` keeps the contract of every cost model."""

from collections.abc import Mapping, Sequence
from typing import Any

from quire.cli.templates.cost_model import NewPlugin, NewPluginConfig
from quire.engine.shape import StepShape
from quire.interfaces import CostModel
from quire.testing import CostModelSuite


class TestContract(CostModelSuite):
    error = 0.25  # rows that sample, and their contexts, cost something too

    def fit(self, shapes: Sequence[StepShape], seconds: Sequence[float]) -> CostModel:
        return NewPlugin.fit(config=NewPluginConfig(), shapes=shapes, seconds=seconds)

    def restore(self, parameters: Mapping[str, Any]) -> CostModel:
        return NewPlugin(config=NewPluginConfig(), parameters=parameters)
