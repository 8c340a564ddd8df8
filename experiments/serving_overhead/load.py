"""The requests that every arm gets: prompts as token ids, no two alike in any round."""

from __future__ import annotations

from collections.abc import Iterator

ANSWERS = {"conversation": (41, 381), "short": (64, 127)}
"""The least and the most tokens to generate. Those of `conversation` have the mean, 211, of the Azure
conversation trace of 2023, and begin at its fifth percentile."""


def make_requests(count: int, round: int, answers: str) -> Iterator[tuple[list[int], int]]:
    """Prompts of 16 to 111 tokens, and how many to generate, spread evenly: they end one by one."""
    least, most = ANSWERS[answers]
    for index in range(count):
        first = (round * count + index) * 131
        prompt = [(first + place * 17) % 2000 + 8 for place in range(16 + index % 96)]
        yield prompt, least + index * 37 % 64 * (most - least) // 63
