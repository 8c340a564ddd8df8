"""Cost-aware: give up what is cheapest to compute again, for how often it is used.

GreedyDual-Size-Frequency (Cherkasova, "Improving WWW proxies performance with Greedy-Dual-Size-Frequency
caching policy", 1998; after Cao and Irani, "Cost-aware WWW proxy caching algorithms", USITS 1997): an object
is worth uses x cost / size plus the cache's age, which is the worth of what was given up last. It saves
cost: the time to compute prompts, not the number of tokens found.

The object here is the prefix that a block ends. A hit on it spares computing all of it, and it takes all of
its blocks, so cost / size is the mean cost of its blocks. Each costs more than the one before, as its tokens
attend to all before them; were a prefix worth what its last block costs, its dear end would hold the cheap
beginning, most of the memory, at the price of the end.

A block is of no use without those before it, so only tails are given up, blocks of which no successor is
evictable (as in Pan et al., "Marconi: prefix caching for the era of hybrid LLMs", MLSys 2025, which weighs
compute saved against memory too). Where depth costs nothing and all uses are the first, this is LRU.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from quire.config.checks import check_not_negative
from quire.interfaces import CachedBlock, EvictionPolicy
from quire_plugins.eviction.ranked_blocks import RankedBlocks


@dataclass
class CostAwareConfig:
    """What a block costs to compute again."""

    depth_cost: float = 0.01
    """What each block before it adds to the cost of a block, as a fraction of the first one's: attention
    against everything else. A model of hidden size h and blocks of b tokens has about b / (6 h)."""

    def __post_init__(self) -> None:
        check_not_negative("eviction", self, "depth_cost")


@dataclass(slots=True)
class Group:
    """The evictable blocks of one KV group."""

    tails: RankedBlocks = field(default_factory=RankedBlocks)
    by_key: dict[bytes, CachedBlock] = field(default_factory=dict[bytes, CachedBlock])
    successors: dict[bytes, int] = field(default_factory=dict[bytes, int])
    """How many evictable blocks come directly after the content of that name."""
    worth: dict[bytes, float] = field(default_factory=dict[bytes, float])
    """Of the prefix that each ends, as of its latest use."""
    age: float = 0.0


class CostAware(EvictionPolicy):
    """Tails by worth; of equals the longest unused first. Every operation takes O(log n)."""

    Config = CostAwareConfig

    def __init__(self, *, config: CostAwareConfig) -> None:
        self._depth_cost = config.depth_cost
        self._groups: defaultdict[int, Group] = defaultdict(Group)

    def add(self, block: CachedBlock) -> None:
        group = self._groups[block.group]
        group.by_key[block.key] = block
        mean_cost = 1 + self._depth_cost * block.depth / 2
        group.worth[block.key] = group.age + (1 + block.hits) * mean_cost
        if block.parent is not None:
            group.successors[block.parent] = group.successors.get(block.parent, 0) + 1
            if block.parent in group.by_key:
                group.tails.discard(group.by_key[block.parent])
        self._put_if_tail(group, block)

    def remove(self, block: CachedBlock) -> None:
        group = self._groups[block.group]
        group.tails.discard(block)
        del group.by_key[block.key], group.worth[block.key]
        parent = block.parent
        if parent is not None:
            group.successors[parent] -= 1
            if group.successors[parent] == 0:
                del group.successors[parent]
                if parent in group.by_key:
                    self._put_if_tail(group, group.by_key[parent])

    def victim(self, group: int) -> CachedBlock:
        blocks = self._groups[group]
        block = blocks.tails.first()
        blocks.age = max(blocks.age, blocks.worth[block.key])
        return block

    def __len__(self) -> int:
        return sum(len(group.by_key) for group in self._groups.values())

    @staticmethod
    def _put_if_tail(group: Group, block: CachedBlock) -> None:
        if block.key not in group.successors:
            group.tails.put(block, (group.worth[block.key], block.last_use))
