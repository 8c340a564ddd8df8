"""Positions told by attention alone: Press, Smith and Lewis, "Train Short, Test Long: Attention with Linear
Biases Enables Input Length Extrapolation", ICLR 2022."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Alibi:
    """What is taken off a score for each token between query and key, by head.

    `trained_tokens` is the longest sequence of the model's training. It limits sequences where the user does
    not: longer ones are what the method is for, up to whatever length still makes sense to the model.
    """

    slopes: tuple[float, ...]
    trained_tokens: int


def paper_slopes(heads: int, *, largest_exponent: float = 8.0) -> tuple[float, ...]:
    """Section 3: of n heads, n a power of two, head i of 1 to n has 2^(-8 i / n).

    Of other numbers the paper's code has the next smaller power of two first, then every other slope of the
    next larger one. `largest_exponent` is the 8.
    """
    power = 1 << (heads.bit_length() - 1)

    def slope(i: int, n: int) -> float:
        return 2.0 ** (-largest_exponent * i / n)

    first = [slope(i, power) for i in range(1, power + 1)]
    others = [slope(i, 2 * power) for i in range(1, 2 * (heads - power), 2)]
    return (*first, *others)
