"""FIFO: give up the content that came into the cache first, however often it was used since.

The plain baseline of caching (Belady, "A study of replacement algorithms for a virtual-storage computer", IBM
Systems Journal 1966): it knows neither recency nor frequency.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import count

from quire.interfaces import CachedBlock, EvictionPolicy
from quire_plugins.eviction.ranked_blocks import RankedBlocks


@dataclass
class FifoConfig:
    """First in, first out has no options."""


class Fifo(EvictionPolicy):
    """In the order in which contents were first left alone; being used again changes nothing."""

    Config = FifoConfig

    def __init__(self, *, config: FifoConfig) -> None:
        del config
        self._evictable: defaultdict[int, RankedBlocks] = defaultdict(RankedBlocks)
        self._arrivals: dict[tuple[int, int], tuple[bytes, int]] = {}
        """What each block held when it was last here, and when that came."""
        self._numbers = count()

    def add(self, block: CachedBlock) -> None:
        place = (block.group, block.block)
        key, arrival = self._arrivals.get(place, (None, 0))
        if key != block.key:
            arrival = next(self._numbers)
            self._arrivals[place] = (block.key, arrival)
        self._evictable[block.group].put(block, arrival)

    def remove(self, block: CachedBlock) -> None:
        self._evictable[block.group].discard(block)

    def victim(self, group: int) -> CachedBlock:
        return self._evictable[group].first()

    def __len__(self) -> int:
        return sum(map(len, self._evictable.values()))
