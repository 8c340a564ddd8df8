"""LFU with ageing: give up the block that was used the least, counting old uses for less.

LFU with dynamic ageing (Arlitt et al., "Evaluating content management techniques for Web proxy caches",
Performance Evaluation Review 2000, section 3): a block's value is its number of uses plus the cache's age as
of its latest use, and the age is the value of the block that was given up last. What was popular once is so
overtaken in the end by what is used now, which plain LFU never forgets.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from quire.errors import UserError
from quire.interfaces import CachedBlock, EvictionPolicy
from quire_plugins.eviction.ranked_blocks import RankedBlocks


@dataclass
class LfuConfig:
    """Options of least frequently used."""

    ageing: float = 1.0
    """How much of the age a use adds to a block's value; 0 is plain LFU."""

    def __post_init__(self) -> None:
        if not 0 <= self.ageing <= 1:
            raise UserError(f"eviction.ageing={self.ageing}: must be in [0, 1]")


class Lfu(EvictionPolicy):
    """By uses plus age; of equals the longest unused goes first, and so the tail of a prefix."""

    Config = LfuConfig

    def __init__(self, *, config: LfuConfig) -> None:
        self._ageing = config.ageing
        self._evictable: defaultdict[int, RankedBlocks] = defaultdict(RankedBlocks)
        self._ages: defaultdict[int, float] = defaultdict(float)

    def add(self, block: CachedBlock) -> None:
        value = 1 + block.hits + self._ageing * self._ages[block.group]
        self._evictable[block.group].put(block, (value, block.last_use))

    def remove(self, block: CachedBlock) -> None:
        self._evictable[block.group].discard(block)

    def victim(self, group: int) -> CachedBlock:
        block = self._evictable[group].first()
        self._ages[group] = self._evictable[group].rank(block)[0]
        return block

    def __len__(self) -> int:
        return sum(map(len, self._evictable.values()))
