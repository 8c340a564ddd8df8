"""Random numbers that are the same in every process and on every machine.

A PCG64 stream hangs on the run's seed and on what is drawn from it, so that changing the lengths of a
workload leaves its arrivals as they were. Only uniform numbers are taken from numpy, whose bit streams are
fixed for ever; distributions are inverse transforms of them, as numpy's own may change with its version.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import TYPE_CHECKING

from quire.rng import derive_seed

if TYPE_CHECKING:
    from numpy.random import Generator


def stream(seed: int, name: str) -> Generator:
    """The generator of what is called `name`, in the run with that seed."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(derive_seed(seed, "workload", name)))


def poisson_arrivals(rng: Generator, rate: float) -> Iterator[float]:
    """Arrival times in seconds of a Poisson process of `rate` a second, without end, in whole microseconds
    (so that the last bit of the machine's logarithm is not seen).
    """
    time = 0.0
    while True:
        time -= math.log1p(-rng.random()) / rate
        yield round(time, 6)


def lognormal_lengths(rng: Generator, *, mean: float, sigma: float, cap: int) -> Iterator[int]:
    """Whole numbers in [1, cap], without end, rounded from a lognormal distribution of that mean; `sigma` is
    the standard deviation of the logarithm (0 makes all alike). What the cap cuts off lowers the mean.
    """
    normal = NormalDist()
    mu = math.log(mean) - sigma**2 / 2
    while True:
        # random() is in [0, 1); the quantile of 0 is not finite
        quantile = normal.inv_cdf(max(rng.random(), 2.0**-53))
        # compared as logarithms: the exponential of a far tail would overflow
        exponent = min(mu + sigma * quantile, math.log(cap))
        yield min(cap, max(1, round(math.exp(exponent))))


def token_ids(rng: Generator, count: int, vocab_size: int) -> tuple[int, ...]:
    """`count` token ids, each as likely as any other."""
    return tuple((rng.random(count) * vocab_size).astype(int).tolist())
