"""The requests that every arm gets: prompts as token ids, no two alike in any round."""

from __future__ import annotations

from collections.abc import Iterator


def make_requests(count: int, round: int) -> Iterator[tuple[list[int], int]]:
    """Prompts of 16 to 111 tokens and the number of tokens to generate, 64 to 127: they end one by one."""
    for index in range(count):
        first = (round * count + index) * 131
        prompt = [(first + place * 17) % 2000 + 8 for place in range(16 + index % 96)]
        yield prompt, 64 + index * 37 % 64
