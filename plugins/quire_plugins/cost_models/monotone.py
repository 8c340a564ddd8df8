"""Monotone: a sum of non-decreasing, piecewise linear functions, one of each count.

Monotone regression splines of degree one (Ramsay, "Monotone regression splines in action", Statistical
Science, 1988): a function is a sum of ramps between knots, each with a weight that is not negative. So the
first rows of a matrix product may be almost free and later ones not, while more work never takes less time;
beyond the last knot the last slope goes on.

    seconds            /
         |        ____/     ramp k rises from knot k to knot k + 1 and is flat elsewhere
         |   ____/
         |__/_____________ count
           0    1    2    3
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self

from quire.engine.shape import StepShape
from quire.errors import UserError
from quire.interfaces import CostModel
from quire.jobs.calibration import read_parameters
from quire_plugins.cost_models.fitting import FEATURES, features, relative_nnls

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass
class MonotoneConfig:
    """Options of `cost_model=monotone`."""

    path: str | None = None
    """The file that `quire calibrate` wrote."""
    knots: int = 12
    """Pieces of each function at most, when it is learned; more follow the steps more closely."""

    def __post_init__(self) -> None:
        if not 1 <= self.knots <= 64:
            raise UserError(f"cost_model.knots={self.knots}: must be from 1 to 64")


class MonotoneCost(CostModel):
    """A constant and, for each count, the function's value; all learned together."""

    Config = MonotoneConfig

    def __init__(self, *, config: MonotoneConfig, parameters: Mapping[str, Any] | None = None) -> None:
        names = ("base_seconds", *FEATURES)
        if parameters is None:
            parameters = read_parameters(config.path, cost_model="monotone", names=names)
        self._base = float(parameters["base_seconds"])
        self._curves = tuple(_Curve(**parameters[name]) for name in FEATURES)
        self._active = tuple(
            (attrgetter(name), curve)
            for name, curve in zip(FEATURES, self._curves, strict=True)
            if any(curve.slopes)
        )

    @classmethod
    def fit(cls, *, config: MonotoneConfig, shapes: Sequence[StepShape], seconds: Sequence[float]) -> Self:
        import numpy as np

        counts_NF = features(shapes)
        knots = [_knots(counts_N, config.knots) for counts_N in counts_NF.T]
        columns = [np.ones((len(counts_NF), 1))]
        columns += [_ramps(counts_N, each) for counts_N, each in zip(counts_NF.T, knots, strict=True)]
        weights = relative_nnls(np.hstack(columns), np.asarray(seconds)).tolist()
        parameters: dict[str, Any] = {"base_seconds": weights.pop(0)}
        for name, each in zip(FEATURES, knots, strict=True):
            slopes, weights = weights[: len(each)], weights[len(each) :]
            parameters[name] = {"knots": each, "slopes": slopes}
        return cls(config=config, parameters=parameters)

    def parameters(self) -> Mapping[str, Any]:
        curves = {
            name: {"knots": curve.knots, "slopes": curve.slopes}
            for name, curve in zip(FEATURES, self._curves, strict=True)
        }
        return {"base_seconds": self._base, **curves}

    def seconds(self, shape: StepShape) -> float:
        total = self._base
        for count, curve in self._active:
            total += curve.at(count(shape))
        return total


class _Curve:
    """A piecewise linear function: `slopes[k]` holds from `knots[k]` to the next knot, the last for ever."""

    def __init__(self, *, knots: Sequence[float], slopes: Sequence[float]) -> None:
        self.knots = list(knots)
        self.slopes = list(slopes)
        self._heights = [0.0]
        for low, high, slope in zip(self.knots, self.knots[1:], self.slopes, strict=False):
            self._heights.append(self._heights[-1] + slope * (high - low))

    def at(self, x: float) -> float:
        k = bisect_right(self.knots, x) - 1
        return self._heights[k] + self.slopes[k] * (x - self.knots[k]) if k >= 0 else 0.0


def _knots(counts_N: npt.NDArray[np.float64], most: int) -> list[float]:
    """From 0 on, at quantiles of the counts that are not 0; the last piece begins below the largest."""
    import numpy as np

    positive = counts_N[counts_N > 0]
    if not len(positive):
        return [0.0]
    inner = np.quantile(positive, np.linspace(0.0, 1.0, most + 1)[:-1]) if most > 1 else np.empty(0)
    return sorted({0.0, *np.unique(np.floor(inner)).tolist()})


def _ramps(counts_N: npt.NDArray[np.float64], knots: Sequence[float]) -> npt.NDArray[np.float64]:
    """Ramp k of each count, [N, K]: how far it is past knot k, at most to the next one."""
    import numpy as np

    lows_K = np.array(knots)
    widths_K = np.append(np.diff(lows_K), np.inf)
    return np.clip(counts_N[:, None] - lows_K, 0.0, widths_K)
