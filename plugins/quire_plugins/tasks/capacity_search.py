"""The search for the highest rate that holds: away from a first guess, then by bisection.

rate     low: holds                                    high: fails
          |-----------------|-------------|---------------|
                         next probe    ...             until high / low <= 1 + precision
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """One run at one rate. It holds if it falls short of nothing."""

    rate: float
    seed: int
    misses: list[str]
    directory: str
    seconds: float
    """How long it took."""

    @property
    def holds(self) -> bool:
        return not self.misses


@dataclass(kw_only=True)
class Bracket:
    """The highest rate known to hold and the lowest known to fail; None where none is known."""

    low: float | None = None
    high: float | None = None
    probes: list[Probe] = field(default_factory=list)


def search(
    holds: Callable[[float], Probe],
    *,
    start: float,
    factor: float,
    lowest: float,
    highest: float,
    precision: float,
) -> Bracket:
    """Bracket the capacity: away from `start` by `factor`, squared each time, then by bisection (of the
    logarithm). Both ends are rates that were tried, or None beyond `lowest` and `highest`.
    """
    found = Bracket()

    def probe(rate: float) -> bool:
        result = holds(rate)
        found.probes.append(result)
        if result.holds:
            found.low = rate
        else:
            found.high = rate
        return result.holds

    upward = probe(start)
    rate = start
    while (found.high if upward else found.low) is None:
        further = min(rate * factor, highest) if upward else max(rate / factor, lowest)
        if further == rate:
            return found
        rate = further
        factor *= factor if factor < 2 else 1
        probe(rate)
    assert found.low is not None
    assert found.high is not None
    while found.high / found.low > 1 + precision:
        probe(math.sqrt(found.low * found.high))
    return found
