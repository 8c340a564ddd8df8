"""Linear: a constant, and so much for each token, sequence and pair of query and key.

The features are those that operators of a transformer scale with (Agrawal et al., Vidur, MLSys 2024, section
4.2): matrix products with the tokens, the output head with the rows that sample, attention with the context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from quire.engine.shape import StepShape
from quire.interfaces import CostModel
from quire.jobs.calibration import read_parameters
from quire_plugins.cost_models.fitting import FEATURES, features, relative_nnls

_BASE = "base_seconds"


@dataclass
class LinearConfig:
    """Options of `cost_model=linear`."""

    path: str | None = None
    """The file that `quire calibrate` wrote."""


class LinearCost(CostModel):
    """A weighted sum of a step's counts; no weight is negative, so that more work never takes less time."""

    Config = LinearConfig

    def __init__(self, *, config: LinearConfig, parameters: Mapping[str, Any] | None = None) -> None:
        names = (_BASE, *FEATURES)
        if parameters is None:
            parameters = read_parameters(config.path, cost_model="linear", names=names)
        self._base, *self._weights = (float(parameters[name]) for name in names)

    @classmethod
    def fit(cls, *, config: LinearConfig, shapes: Sequence[StepShape], seconds: Sequence[float]) -> Self:
        import numpy as np

        counts_NF = features(shapes)
        columns_NC = np.column_stack([np.ones(len(counts_NF)), counts_NF])
        weights_C = relative_nnls(columns_NC, np.asarray(seconds))
        return cls(
            config=config,
            parameters=dict(zip((_BASE, *FEATURES), weights_C.tolist(), strict=True)),
        )

    def parameters(self) -> Mapping[str, Any]:
        return {_BASE: self._base, **dict(zip(FEATURES, self._weights, strict=True))}

    def seconds(self, shape: StepShape) -> float:
        tokens, prefill, decodes, samples, context, longest, pairs = self._weights
        return (
            self._base
            + tokens * shape.num_tokens
            + prefill * shape.prefill_tokens
            + decodes * shape.decode_sequences
            + samples * shape.samples
            + context * shape.decode_context
            + longest * shape.max_decode_context
            + pairs * shape.prefill_pairs
        )
