"""A step takes a constant, and so much for each token: a line through what was measured, by least squares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from quire.engine.shape import StepShape
from quire.errors import UserError
from quire.interfaces import CostModel
from quire.jobs.calibration import read_parameters

_LEAST = 10


@dataclass
class NewPluginConfig:
    """Options of `cost_model=new_plugin`."""

    path: str | None = None
    """The file that `quire calibrate` wrote."""


class NewPlugin(CostModel):
    """Looks at nothing but the number of tokens."""

    Config = NewPluginConfig

    def __init__(self, *, config: NewPluginConfig, parameters: Mapping[str, Any] | None = None) -> None:
        if parameters is None:
            parameters = read_parameters(config.path, cost_model="new_plugin", names=("base", "token"))
        self._base, self._token = float(parameters["base"]), float(parameters["token"])

    @classmethod
    def fit(cls, *, config: NewPluginConfig, shapes: Sequence[StepShape], seconds: Sequence[float]) -> Self:
        import numpy as np

        if len(shapes) < _LEAST:
            raise UserError(f"{len(shapes)} steps are too few to calibrate on; at least {_LEAST}")
        token, base = map(float, np.polyfit([shape.num_tokens for shape in shapes], seconds, 1))
        return cls(config=config, parameters={"base": max(base, 1e-6), "token": max(token, 0.0)})

    def parameters(self) -> Mapping[str, Any]:
        return {"base": self._base, "token": self._token}

    def seconds(self, shape: StepShape) -> float:
        return self._base + self._token * shape.num_tokens
