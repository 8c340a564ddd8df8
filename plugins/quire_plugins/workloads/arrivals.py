"""Arrival times of open load, in seconds, without end; rounded to whole microseconds, so that the last bit of
a machine's logarithm is not seen.

Each process has the mean rate that it is given and differs in how it clusters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import accumulate
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.random import Generator

_NORMAL = NormalDist()
_TINY = 2.0**-53


def gamma_arrivals(rng: Generator, rate: float, *, cv: float) -> Iterator[float]:
    """Gaps from a gamma distribution whose coefficient of variation is `cv`: 1 is Poisson, more is bursty."""
    shape = 1.0 / cv**2
    return _times(_gamma(rng, shape) / (shape * rate) for _ in iter(int, 1))


def weibull_arrivals(rng: Generator, rate: float, *, cv: float) -> Iterator[float]:
    """Gaps from a Weibull distribution whose coefficient of variation is `cv`; heavier tails than gamma's."""
    shape = weibull_shape(cv)
    scale = 1.0 / (rate * math.gamma(1.0 + 1.0 / shape))
    return _times(scale * _exponential(rng) ** (1.0 / shape) for _ in iter(int, 1))


def on_off_arrivals(rng: Generator, rate: float, *, on: float, off: float) -> Iterator[float]:
    """Poisson while on, nothing while off, each for exponential times of those means (Kuczura, "The
    interrupted Poisson process as an overflow process", 1973); begins with an on period.
    """
    burst = rate * (on + off) / on
    begin = 0.0
    while True:
        end = begin + on * _exponential(rng)
        time = begin
        while (time := time + _exponential(rng) / burst) < end:
            yield round(time, 6)
        begin = end + off * _exponential(rng)


def diurnal_arrivals(rng: Generator, rate: float, *, period: float, amplitude: float) -> Iterator[float]:
    """Poisson whose rate swings around `rate` by the fraction `amplitude`, as a sine of that period, by
    thinning (Lewis and Shedler, 1979).
    """
    highest, time = rate * (1.0 + amplitude), 0.0
    while True:
        time += _exponential(rng) / highest
        now = rate * (1.0 + amplitude * math.sin(2.0 * math.pi * time / period))
        if rng.random() * highest < now:
            yield round(time, 6)


def weibull_shape(cv: float) -> float:
    """The shape of the Weibull distribution with that coefficient of variation, by bisection."""
    low, high = 0.05, 100.0
    for _ in range(200):
        middle = math.sqrt(low * high)
        ratio = math.exp(math.lgamma(1 + 2 / middle) - 2 * math.lgamma(1 + 1 / middle))
        low, high = (middle, high) if ratio - 1.0 > cv**2 else (low, middle)
    return low


def _times(gaps: Iterator[float]) -> Iterator[float]:
    return (round(time, 6) for time in accumulate(gaps))


def _exponential(rng: Generator) -> float:
    """Mean 1."""
    return -math.log1p(-rng.random())


def _gamma(rng: Generator, shape: float) -> float:
    """Scale 1, by rejection (Marsaglia and Tsang, "A simple method for generating gamma variables", 2000)."""
    if shape < 1.0:
        return _gamma(rng, shape + 1.0) * max(rng.random(), _TINY) ** (1.0 / shape)
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        normal = _NORMAL.inv_cdf(max(rng.random(), _TINY))
        cube = (1.0 + c * normal) ** 3
        if cube <= 0.0:
            continue
        if math.log(max(rng.random(), _TINY)) < 0.5 * normal**2 + d - d * cube + d * math.log(cube):
            return d * cube
