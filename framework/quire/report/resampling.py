"""Paired bootstrap intervals for the difference of two arms, over seeds and, within a seed, over requests.

One draw takes seeds with replacement, and for each of them requests with replacement: the same requests in
both arms, with all their tokens (a cluster bootstrap). A percentile of the tokens drawn is then exactly that
of a run which had served those requests.

The interval over S > 1 seeds is exp(log(ratio) +- t(S - 1) sqrt(S / (S - 1)) sd), with sd the standard
deviation of the draws' log(ratio): with few seeds a bootstrap is too narrow by sqrt((S - 1) / S), and by the
difference between Student's t and the normal distribution (Hesterberg, "What Teachers Should Know About the
Bootstrap", 2015). One seed is not resampled; its interval is that of the draws' percentiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A relative change, 0.1 for 10% more, and the interval around it."""

    change: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


class PairedValues:
    """One metric's values of the requests that both runs of a seed have; any number each."""

    def __init__(self, values: Sequence[Sequence[float]]) -> None:
        counts_R = np.array([len(each) for each in values])
        flat_N = np.concatenate([np.asarray(each, dtype=float) for each in values])
        order_N = np.argsort(-flat_N, kind="stable")
        self._counts_R = counts_R
        self._sums_R = np.bincount(
            np.repeat(np.arange(len(values)), counts_R), weights=flat_N, minlength=len(values)
        )
        self._sorted_N = flat_N[order_N]
        """From the largest."""
        self._owner_N = np.repeat(np.arange(len(values)), counts_R)[order_N]

    def statistic(self, name: str, drawn_DR: np.ndarray) -> np.ndarray:
        """`mean` or a percentile (`p99`) of the values, where each request was drawn so often; per draw. NaN
        where the requests drawn have no values.
        """
        total_D = drawn_DR @ self._counts_R
        if name == "mean":
            with np.errstate(invalid="ignore", divide="ignore"):
                return (drawn_DR @ self._sums_R) / total_D
        q = float(name.removeprefix("p")) / 100
        return np.array([self._quantile(q, d_R, int(n)) for d_R, n in zip(drawn_DR, total_D, strict=True)])

    def _quantile(self, q: float, drawn_R: np.ndarray, total: int) -> float:
        """numpy's "linear" percentile of the multiset, from the top, of which mostly a small part is read."""
        if total == 0:
            return math.nan
        place = (total - 1) * q
        below, above = total - 1 - math.floor(place), total - 1 - math.ceil(place)  # counted from the largest
        part = min(len(self._sorted_N), int(len(self._sorted_N) * min(1.0, 3 * (1 - q))) + 64)
        reached_P = np.cumsum(drawn_R[self._owner_N[:part]])
        if reached_P[-1] <= below:
            reached_P = np.cumsum(drawn_R[self._owner_N])
        low = self._sorted_N[np.searchsorted(reached_P, below, side="right")]
        high = self._sorted_N[np.searchsorted(reached_P, above, side="right")]
        return float(low + (high - low) * (place - math.floor(place)))


def draw_requests(count: int, *, rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """How often each of `count` requests is drawn, per draw."""
    drawn_DR = np.empty((draws, count), dtype=np.int32)
    for drawn_R in drawn_DR:
        drawn_R[:] = np.bincount(rng.integers(count, size=count), minlength=count)
    return drawn_DR


def change_interval(
    ours_S: np.ndarray,
    theirs_S: np.ndarray,
    ours_SD: np.ndarray,
    theirs_SD: np.ndarray,
    *,
    rng: np.random.Generator,
    confidence: float,
) -> Interval | None:
    """The change of the mean over seeds S, from `theirs` to `ours`, with its interval: from the statistics of
    each seed, and those of its draws D. None where it is not defined.
    """
    seeds, draws = ours_SD.shape
    if not np.isfinite([*ours_S, *theirs_S]).all() or not theirs_S.mean():
        return None
    chosen_DS = rng.integers(seeds, size=(draws, seeds))
    # a seed drawn twice brings its requests in two draws of their own
    from_DS = (np.arange(draws)[:, None] + rng.integers(draws, size=seeds)) % draws
    with np.errstate(invalid="ignore", divide="ignore"):
        changes_D = ours_SD[chosen_DS, from_DS].mean(axis=1) / theirs_SD[chosen_DS, from_DS].mean(axis=1) - 1
    changes_D = changes_D[np.isfinite(changes_D) & (changes_D > -1)]
    if not len(changes_D) or not ours_S.mean():
        return None
    change = float(ours_S.mean() / theirs_S.mean() - 1)
    tail = (1 - confidence) / 2
    if seeds == 1:
        low, high = (float(end) for end in np.quantile(changes_D, [tail, 1 - tail]))
        return Interval(change=change, low=low, high=high)
    return interval_over_seeds(change, float(np.log1p(changes_D).std()), seeds=seeds, confidence=confidence)


def interval_over_seeds(change: float, spread: float, *, seeds: int, confidence: float) -> Interval:
    """The interval around `change`; `spread` is the standard deviation of log(1 + change) over the draws."""
    from scipy.stats import t

    half = float(t.isf((1 - confidence) / 2, seeds - 1)) * math.sqrt(seeds / (seeds - 1)) * spread
    ratio = 1 + change
    return Interval(change=change, low=ratio * math.exp(-half) - 1, high=ratio * math.exp(half) - 1)
