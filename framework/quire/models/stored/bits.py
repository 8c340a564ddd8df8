"""Integers that share a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def unpack(
    words: torch.Tensor, *, bits: int, dim: int, size: int, order: Sequence[int] | None = None
) -> torch.Tensor:
    """uint8 values of `bits` bits each from int32 words, `size` of them along `dim`, which grows.

    The lowest bits come first; `order[i]` is the place among its word's values of the one in the i-th bits.
    """
    import torch

    per_word = 32 // bits
    places = range(per_word) if order is None else order
    values: list[torch.Tensor | None] = [None] * per_word
    for position, place in enumerate(places):
        values[place] = (words >> (bits * position)).bitwise_and((1 << bits) - 1).to(torch.uint8)
    whole = torch.stack([each for each in values if each is not None], dim=dim + 1)
    return whole.flatten(dim, dim + 1).narrow(dim, 0, size)
