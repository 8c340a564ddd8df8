"""Claims: a number for each seed, paired, with its interval, against what it must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 10_000


def ratio(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    """One by the other, seed for seed."""
    return [one / other for one, other in zip(ones, others, strict=True)]


def difference(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    """One less the other, seed for seed."""
    return [one - other for one, other in zip(ones, others, strict=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """Holds if the mean over the seeds lies within the bounds. A control is one where no effect is due."""

    what: str
    values: Sequence[float]
    at_least: float | None = None
    at_most: float | None = None
    control: bool = False

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def holds(self) -> bool:
        low = self.at_least is None or self.mean >= self.at_least
        return low and (self.at_most is None or self.mean <= self.at_most)

    def interval(self) -> tuple[float, float]:
        """95% of the means of resampled seeds (the percentile bootstrap)."""
        rng = np.random.Generator(np.random.PCG64(0))
        values_N = np.asarray(self.values)
        means_R = values_N[rng.integers(0, len(values_N), (RESAMPLES, len(values_N)))].mean(axis=1)
        low, high = np.percentile(means_R, (2.5, 97.5))
        return float(low), float(high)

    def to_dict(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "control": self.control,
            "at_least": self.at_least,
            "at_most": self.at_most,
            "mean": self.mean,
            "interval_95": self.interval(),
            "seeds": list(self.values),
            "holds": self.holds,
        }

    def __str__(self) -> str:
        low, high = self.interval()
        bounds = [f">= {self.at_least:g}"] if self.at_least is not None else []
        bounds += [f"<= {self.at_most:g}"] if self.at_most is not None else []
        verdict = "holds" if self.holds else "FAILS"
        kind = "control" if self.control else "claim"
        due = " and ".join(bounds)
        return f"{verdict:5} {kind:7} {self.what}: {self.mean:.4g} [{low:.4g}, {high:.4g}], due {due}"
