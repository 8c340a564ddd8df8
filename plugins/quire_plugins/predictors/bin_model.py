"""Softmax regression from prompt length and tenant to a bin of output lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quire_plugins.predictors.length_log import LoggedLength
from quire_plugins.predictors.lengths import Lengths

_KNOTS = 6
_PENALTY = 1e-4
"""Weight of the squared parameters, against one of the mean negative log likelihood."""
_ITERATIONS = 400

# Shapes: N rows, F features, K bins.
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class BinModel:
    """`bins[k]` are the logged lengths of bin k; those of bin k + 1 are all longer."""

    bins: list[Lengths]
    knots: Floats
    tenants: dict[str, int]
    weights_FK: Floats

    @classmethod
    def fit(cls, rows: Sequence[LoggedLength], *, max_bins: int) -> BinModel:
        """Trains on `rows`, at least one. The same rows give the same model."""
        lengths_N = np.array([row.output_tokens for row in rows])
        highs_K = np.unique(np.quantile(lengths_N, np.arange(1, max_bins + 1) / max_bins, method="higher"))
        target_N = np.searchsorted(highs_K, lengths_N)
        bins = [Lengths() for _ in highs_K]
        for index, length in zip(target_N, lengths_N.tolist(), strict=True):
            bins[index].add(length)
        prompts_N = np.log([row.num_prompt_tokens for row in rows])
        knots = np.unique(np.quantile(prompts_N, np.linspace(0, 1, _KNOTS)))
        tenants = {name: index for index, name in enumerate(sorted({row.tenant for row in rows}))}
        x_NF = np.stack([_features(row.num_prompt_tokens, row.tenant, knots, tenants) for row in rows])
        return cls(bins=bins, knots=knots, tenants=tenants, weights_FK=_train(x_NF, target_N, len(bins)))

    def probabilities(self, num_prompt_tokens: int, tenant: str) -> list[float]:
        """Of each bin. A tenant that was not in the log is none of those that were."""
        x_F = _features(num_prompt_tokens, tenant, self.knots, self.tenants)
        probabilities: list[float] = _softmax((x_F @ self.weights_FK)[None])[0].tolist()
        return probabilities


def _features(num_prompt_tokens: int, tenant: str, knots: Floats, tenants: dict[str, int]) -> Floats:
    """1, the logarithm of the prompt length and how far it is above each knot; a line of each tenant's."""
    length = np.log(num_prompt_tokens)
    line = np.array([1.0, length - knots.mean()])
    lines = np.zeros((len(tenants), 2))
    if tenant in tenants:
        lines[tenants[tenant]] = line
    return np.concatenate([line, np.maximum(0.0, length - knots), lines.ravel()])


def _train(x_NF: Floats, target_N: npt.NDArray[np.int64], num_bins: int) -> Floats:
    """Accelerated gradient descent (Nesterov, 1983) on the penalised negative log likelihood, which is
    convex."""
    number, features = x_NF.shape
    hot_NK = np.eye(num_bins)[target_N]
    # The likelihood's curvature is at most half the largest eigenvalue of the features' second moments.
    rate = 1 / (0.5 * float(np.linalg.norm(x_NF.T @ x_NF / number, 2)) + _PENALTY)
    weights_FK = np.zeros((features, num_bins))
    ahead_FK, momentum = weights_FK, 1.0
    for _ in range(_ITERATIONS):
        gradient_FK = x_NF.T @ (_softmax(x_NF @ ahead_FK) - hot_NK) / number + _PENALTY * ahead_FK
        stepped_FK = ahead_FK - rate * gradient_FK
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead_FK = stepped_FK + (momentum - 1) / following * (stepped_FK - weights_FK)
        weights_FK, momentum = stepped_FK, following
    return weights_FK


def _softmax(scores_NK: Floats) -> Floats:
    exponentials_NK = np.exp(scores_NK - scores_NK.max(axis=1, keepdims=True))
    return exponentials_NK / exponentials_NK.sum(axis=1, keepdims=True)
