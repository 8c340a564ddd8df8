"""ARC: balance recency and frequency by what was given up too early.

Megiddo and Modha, "ARC: a self-tuning, low overhead replacement cache", FAST 2003, section 3: what was used
once is in the list T1, what was used again in T2, and the ghost lists B1 and B2 remember the names of what
either gave up. Content that comes back although B1 remembers it says that T1 should have been larger, B2 the
same of T2; the target p for the size of T1 moves accordingly.

Here a cache learns of content when its last reference goes. Blocks that are referenced are in neither list,
so the size c that bounds the ghosts (|T1| + |B1| <= c, all four lists <= 2c) is the most blocks that were
evictable at once.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field

from quire.interfaces import CachedBlock, EvictionPolicy


@dataclass
class ArcConfig:
    """ARC has no options: it tunes itself."""


def _blocks() -> OrderedDict[int, CachedBlock]:
    return OrderedDict()


def _ghosts() -> OrderedDict[bytes, None]:
    return OrderedDict()


@dataclass(slots=True)
class Lists:
    """Those of one KV group, each in order of use, and the paper's p and c."""

    t1: OrderedDict[int, CachedBlock] = field(default_factory=_blocks)
    t2: OrderedDict[int, CachedBlock] = field(default_factory=_blocks)
    b1: OrderedDict[bytes, None] = field(default_factory=_ghosts)
    b2: OrderedDict[bytes, None] = field(default_factory=_ghosts)
    frequent: dict[int, bytes] = field(default_factory=dict[int, bytes])
    """What came back from a ghost list, by the block that holds it: it belongs to T2 for as long."""
    target: float = 0.0
    size: int = 0

    def learn(self, key: bytes) -> bool:
        """Content comes into the cache; whether it was given up lately, which moves the target."""
        if key in self.b1:
            self.target = min(float(self.size), self.target + max(1.0, len(self.b2) / len(self.b1)))
            del self.b1[key]
            return True
        if key in self.b2:
            self.target = max(0.0, self.target - max(1.0, len(self.b1) / len(self.b2)))
            del self.b2[key]
            return True
        return False

    def trim(self) -> None:
        """Forget the oldest ghosts beyond what the paper allows."""
        while self.b1 and len(self.t1) + len(self.b1) > self.size:
            self.b1.popitem(last=False)
        while self.b2 and len(self.t1) + len(self.t2) + len(self.b1) + len(self.b2) > 2 * self.size:
            self.b2.popitem(last=False)


class Arc(EvictionPolicy):
    """Every operation takes constant time."""

    Config = ArcConfig

    def __init__(self, *, config: ArcConfig) -> None:
        del config
        self._lists: defaultdict[int, Lists] = defaultdict(Lists)
        self._victim: CachedBlock | None = None

    def add(self, block: CachedBlock) -> None:
        lists = self._lists[block.group]
        if lists.learn(block.key):
            lists.frequent[block.block] = block.key
        again = block.hits > 0 or lists.frequent.get(block.block) == block.key
        (lists.t2 if again else lists.t1)[block.block] = block
        lists.size = max(lists.size, len(lists.t1) + len(lists.t2))
        lists.trim()

    def remove(self, block: CachedBlock) -> None:
        lists = self._lists[block.group]
        in_t1 = lists.t1.pop(block.block, None) is not None
        if not in_t1:
            del lists.t2[block.block]
        if block is self._victim:
            (lists.b1 if in_t1 else lists.b2)[block.key] = None
            lists.frequent.pop(block.block, None)
            lists.trim()
        self._victim = None

    def victim(self, group: int) -> CachedBlock:
        lists = self._lists[group]
        from_t1 = lists.t1 and (not lists.t2 or len(lists.t1) > lists.target)
        self._victim = next(iter((lists.t1 if from_t1 else lists.t2).values()))
        return self._victim

    def __len__(self) -> int:
        return sum(len(lists.t1) + len(lists.t2) for lists in self._lists.values())
