"""Conversations drawn at random: who asks, how much is new in each turn, and when the next one follows."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from quire_plugins.workloads.draws import stream
from quire_plugins.workloads.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One request. `think` is the pause in seconds between the answer before and this turn."""

    number: int
    prompt: int
    """Tokens of the whole prompt, what was said before included."""
    output: int
    think: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """Turns of one user, at least one."""

    index: int
    tenant: str
    preamble: tuple[tuple[str, int], ...]
    """What the first prompt begins with: names of texts that others may share, each with its tokens."""
    turns: tuple[Turn, ...]


def conversations(
    *,
    seed: int,
    requests: int,
    lengths: Iterator[tuple[int, int]],
    mean_turns: float,
    think_mean: float,
    tenants: Sequence[tuple[str, float]],
    preambles: Iterator[tuple[tuple[str, int], ...]],
    limits: Limits,
) -> Iterator[Conversation]:
    """Conversations of `requests` turns in all, less those that `limits` leaves out.

    The number of turns is geometric. A first prompt is as long as drawn, its preamble included (and one token
    at least of its own); a later turn adds a drawn prompt to all that was said. A conversation ends where it
    grows too long.
    """
    turns_rng, think_rng = stream(seed, "synthetic turns"), stream(seed, "synthetic think")
    tenant_rng = stream(seed, "synthetic tenants")
    index = 0
    while requests > 0:
        count = min(_geometric(turns_rng, mean_turns), requests)
        requests -= count
        tenant = pick(tenant_rng, tenants)
        preamble = next(preambles)
        said = sum(tokens for _, tokens in preamble)
        turns: list[Turn] = []
        drawn = [(*next(lengths), exponential(think_rng, think_mean)) for _ in range(count)]
        for number, (prompt, output, think) in enumerate(drawn):
            whole = said + prompt if number else max(prompt, said + 1)
            fitting = limits.fit(whole, output, name=f"request {index}.{number}")
            if fitting is None or fitting[0] <= said:
                limits.drop(count - number - (fitting is None))
                break
            whole, output = fitting
            turns.append(Turn(number=number, prompt=whole, output=output, think=think))
            said = whole + output
        if turns:
            yield Conversation(index=index, tenant=tenant, preamble=preamble, turns=tuple(turns))
        index += 1


def pick(rng: Generator, weighted: Sequence[tuple[str, float]]) -> str:
    """One of the names, with chances like the weights."""
    sums = list(accumulate(weight for _, weight in weighted))
    return weighted[min(bisect_right(sums, rng.random() * sums[-1]), len(sums) - 1)][0]


def exponential(rng: Generator, mean: float) -> float:
    """A time of that mean; always draws, so that the stream does not depend on the mean."""
    return round(-math.log1p(-rng.random()) * mean, 6)


def _geometric(rng: Generator, mean: float) -> int:
    """A whole number from 1 on, of that mean."""
    draw = rng.random()
    return 1 if mean == 1.0 else 1 + int(math.log1p(-draw) / math.log1p(-1.0 / mean))
