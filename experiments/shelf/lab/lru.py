"""A plain LRU cache over a stream of prompts, with none of the engine's parts: the hits to be expected."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence


def replay(prompts: Iterable[tuple[int, Sequence[bytes]]], *, block_tokens: int, capacity: int) -> float:
    """The share of prompt tokens found, of prompts (tokens, names of whole blocks) one after another.

    A hit is the longest beginning of whole blocks that is there; `capacity` is in blocks. The last token of a
    prompt is always computed, so a block that it ends is none of the beginning.
    """
    cache: OrderedDict[bytes, None] = OrderedDict()
    found = asked = 0
    for tokens, blocks in prompts:
        hits = 0
        for block in blocks[: (tokens - 1) // block_tokens]:
            if block not in cache:
                break
            hits += 1
        found += hits * block_tokens
        asked += tokens
        for block in reversed(blocks):  # the end of a prompt goes before its beginning
            cache[block] = None
            cache.move_to_end(block)
        while len(cache) > capacity:
            cache.popitem(last=False)
    return found / asked
