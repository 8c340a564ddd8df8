"""Numbers gathered over a run, in bounded memory."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable

import numpy as np

EXACT = 2**17
"""So many numbers are kept as they are: eight bytes each, a megabyte of a metric."""
_WIDTH = math.log(1.001)
"""Of a bin, in logarithms: a percentile is then off by at most 0.05%."""


class Values:
    """Percentiles are exact up to `EXACT` numbers. Beyond, numbers are counted in bins of equal ratio (Masson
    et al., DDSketch, VLDB 2019, section 2.1), of which there are a few thousand; mean and maximum stay exact.
    """

    def __init__(self) -> None:
        self._kept = array("d")
        self._bins: Counter[int] = Counter()
        self._not_positive = 0
        self._count = 0
        self._sum = 0.0
        self._max = -math.inf

    def append(self, value: float) -> None:
        """One more."""
        self._kept.append(value)
        if len(self._kept) >= EXACT:
            self._count_kept()

    def extend(self, values: Iterable[float]) -> None:
        """Some more."""
        self._kept.extend(values)
        if len(self._kept) >= EXACT:
            self._count_kept()

    def distribution(self, percentiles: tuple[int, ...]) -> dict[str, float] | None:
        """Count, mean, percentiles and maximum; None if there are no numbers."""
        if not self._count:
            return exact_distribution(self._kept, percentiles)
        self._count_kept()
        names = sorted(self._bins)
        ends_B = self._not_positive + np.cumsum([self._bins[name] for name in names])
        found: dict[str, float] = {}
        for q in percentiles:
            rank = (self._count - 1) * q / 100
            place = int(np.searchsorted(ends_B, rank, side="right"))
            middle = math.exp((names[min(place, len(names) - 1)] + 0.5) * _WIDTH) if names else 0.0
            found[f"p{q}"] = 0.0 if rank < self._not_positive else min(middle, self._max)
        return {"count": self._count, "mean": self._sum / self._count, **found, "max": self._max}

    def _count_kept(self) -> None:
        """Put into bins what is kept. Numbers that are not positive (a queueing time of 0) are one bin."""
        if not len(self._kept):
            return
        values_N = np.array(self._kept)
        self._kept = array("d")
        self._count += len(values_N)
        self._sum += float(values_N.sum())
        self._max = max(self._max, float(values_N.max()))
        positive_N = values_N[values_N > 0]
        self._not_positive += len(values_N) - len(positive_N)
        names_B, counts_B = np.unique(np.floor(np.log(positive_N) / _WIDTH), return_counts=True)
        self._bins.update(dict(zip(names_B.astype(int).tolist(), counts_B.tolist(), strict=True)))


def exact_distribution(
    values: Iterable[float] | array[float], percentiles: tuple[int, ...]
) -> dict[str, float] | None:
    """Count, mean, percentiles and maximum of `values`; None if there are none.

    The percentile q of N sorted values is read off at position (N - 1) * q / 100, linearly between
    neighbours (numpy's "linear", Hyndman and Fan's definition 7).
    """
    values_N = np.asarray(values, dtype=np.float64)
    if not len(values_N):
        return None
    found = np.percentile(values_N, percentiles, method="linear")
    return {
        "count": len(values_N),
        "mean": float(values_N.mean()),
        **{f"p{q}": float(value) for q, value in zip(percentiles, found, strict=True)},
        "max": float(values_N.max()),
    }
