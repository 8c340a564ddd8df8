"""LRU: give up the cached block whose last reference went the longest time ago (Mattson et al., "Evaluation
techniques for storage hierarchies", IBM Systems Journal 1970)."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass

from quire.interfaces import CachedBlock, EvictionPolicy


@dataclass
class LruConfig:
    """Least recently used has no options."""


class Lru(EvictionPolicy):
    """Blocks of each group in the order in which they came, so that every operation takes constant time.

    A sequence's blocks come tail first: of blocks released together the deepest goes first, and the start
    of a prefix, which the most sequences share, goes last.
    """

    Config = LruConfig

    def __init__(self, *, config: LruConfig) -> None:
        self._queues: defaultdict[int, OrderedDict[int, CachedBlock]] = defaultdict(OrderedDict)

    def add(self, block: CachedBlock) -> None:
        self._queues[block.group][block.block] = block

    def remove(self, block: CachedBlock) -> None:
        del self._queues[block.group][block.block]

    def victim(self, group: int) -> CachedBlock:
        return next(iter(self._queues[group].values()))

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))
