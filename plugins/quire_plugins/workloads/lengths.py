"""Lengths of prompts and outputs by quantile knots, drawn together.

Measured lengths are bimodal or cut off, so no lognormal fits them: the inverse of their distribution function
is interpolated between knots instead. A Gaussian copula (Nelsen, An Introduction to Copulas, 2006, section
2.3) makes long prompts go with long outputs, or with short ones, and leaves both distributions as they are.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.random import Generator

_NORMAL = NormalDist()
_TINY = 2.0**-53


@dataclass(frozen=True, kw_only=True, slots=True)
class JointLengths:
    """`prompt[i]` and `output[i]` are the lengths in tokens that a fraction `levels[i]` of requests do not
    exceed; levels go from 0 to 1. `correlation` is that of the copula's normals, in (-1, 1).
    """

    levels: Sequence[float]
    prompt: Sequence[float]
    output: Sequence[float]
    correlation: float = 0.0

    def draw(self, rng: Generator) -> Iterator[tuple[int, int]]:
        """Lengths of prompt and output, at least 1, without end."""
        rest = math.sqrt(1.0 - self.correlation**2)
        while True:
            first, second = rng.random(), rng.random()
            if self.correlation:
                z, w = (_NORMAL.inv_cdf(min(max(u, _TINY), 1.0 - _TINY)) for u in (first, second))
                second = _NORMAL.cdf(self.correlation * z + rest * w)
            yield (
                quantile(self.levels, self.prompt, first),
                quantile(self.levels, self.output, second),
            )


def quantile(levels: Sequence[float], knots: Sequence[float], u: float) -> int:
    """The whole number, at least 1, next to the quantile of level `u`, on lines between the knots."""
    i = min(max(bisect_right(levels, u) - 1, 0), len(levels) - 2)
    low, high = levels[i], levels[i + 1]
    return max(1, round(knots[i] + (knots[i + 1] - knots[i]) * (u - low) / (high - low)))
