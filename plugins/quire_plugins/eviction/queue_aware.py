"""Queue-aware: keep what waiting requests are about to hit; of the rest, give up the longest unused.

The queue shows the near future, which Belady's optimum (IBM Systems Journal 1966) would look at and recency
only guesses: "give up what is needed furthest in the future, or never", as far as the waiting requests tell.
SGLang orders the queue by the cache instead (Zheng et al., "SGLang: efficient execution of structured
language model programs", NeurIPS 2024, section 3), and both can be had at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from quire.engine.queues import QueueView, RunningView
from quire.engine.sequence import SequenceView
from quire.errors import UserError
from quire.interfaces import CachedBlock, EvictionPolicy, PrefixHit
from quire.interfaces.allocator import Place, Tier
from quire_plugins.eviction.ranked_blocks import RankedBlocks


@dataclass
class QueueAwareConfig:
    """How far it looks."""

    look_ahead: int = 64
    """Waiting sequences, from the earliest on, whose cached prefixes are protected."""

    def __post_init__(self) -> None:
        if self.look_ahead < 1:
            raise UserError(f"eviction.look_ahead={self.look_ahead}: must be at least 1")


class QueueAware(EvictionPolicy):
    """Two orders a group: what nobody waits for, by last use, and what somebody does, the last in the queue
    first. The queue is read once a scheduling pass that evicts anything; everything else takes O(log n).
    """

    Config = QueueAwareConfig

    def __init__(self, *, config: QueueAwareConfig) -> None:
        self._look_ahead = config.look_ahead
        self._open: defaultdict[int, RankedBlocks] = defaultdict(RankedBlocks)
        self._awaited: defaultdict[int, RankedBlocks] = defaultdict(RankedBlocks)
        self._blocks: dict[tuple[int, int], CachedBlock] = {}
        self._places: dict[tuple[int, int], int] = {}
        """By group and block: where the first that waits for it stands in the queue."""
        self._pass: RunningView | None = None

    def bind(self, queues: QueueView, match: Callable[[SequenceView], PrefixHit]) -> None:
        self._queues = queues
        self._match = match

    def add(self, block: CachedBlock) -> None:
        self._blocks[block.group, block.block] = block
        self._put(block)

    def remove(self, block: CachedBlock) -> None:
        del self._blocks[block.group, block.block]
        self._discard(block)

    def victim(self, group: int) -> CachedBlock:
        if self._queues.running is not self._pass:  # another call of `schedule` began
            self._pass = self._queues.running
            self._look()
        blocks = self._open[group] or self._awaited[group]
        return blocks.first()

    def __len__(self) -> int:
        return len(self._blocks)

    def _look(self) -> None:
        """Find out what is waited for now, and move the blocks of which that changed."""
        places: dict[tuple[int, int], int] = {}
        for place, seq in enumerate(islice(self._queues.waiting, self._look_ahead)):
            for block in _named(self._match(seq)):
                places.setdefault(block, place)
        before, self._places = self._places, places
        for name in before.keys() | places.keys():
            if name in self._blocks and before.get(name) != places.get(name):
                self._discard(self._blocks[name])
                self._put(self._blocks[name])

    def _put(self, block: CachedBlock) -> None:
        place = self._places.get((block.group, block.block))
        if place is None:
            self._open[block.group].put(block, block.last_use)
        else:
            self._awaited[block.group].put(block, (-place, block.last_use))

    def _discard(self, block: CachedBlock) -> None:
        if not self._open[block.group].discard(block):
            self._awaited[block.group].discard(block)


def _named(hit: PrefixHit) -> Iterator[tuple[int, int]]:
    """Group and number of the device's blocks in a hit."""
    for group, blocks in enumerate(hit.blocks):
        for block in blocks:
            if isinstance(block, Place):
                if block.tier is Tier.DEVICE:
                    yield group, block.block
            elif block is not None:
                yield group, block
