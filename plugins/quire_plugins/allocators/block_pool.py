"""The blocks of one KV group: reference counts, and the index of published content.

Every block is in one of three states:

    free    no reference, no content           on the free list
    used    named by one table entry or more   its content may be published meanwhile
    cached  published, but in no table         known to the eviction policy, which orders such blocks
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from quire.interfaces import CachedBlock, EvictionPolicy
from quire_plugins.allocators.index_log import IndexLog


class BlockPool:
    """Hands out blocks and takes them back. `releases` counts releases over all pools, for `last_use`;
    `log` hears of what is published and removed; `keep` is shown what is about to be evicted.
    """

    def __init__(
        self,
        *,
        group: int,
        num_blocks: int,
        eviction: EvictionPolicy,
        releases: Iterator[int],
        log: IndexLog,
        keep: Callable[[CachedBlock], None] | None = None,
    ) -> None:
        self._group = group
        self._eviction = eviction
        self._releases = releases
        self._log = log
        self._keep = keep
        self._free = list(reversed(range(num_blocks)))  # a stack: the block freed last is warm in caches
        self._references = [0] * num_blocks
        self._by_key: dict[bytes, CachedBlock] = {}
        self._by_block: dict[int, CachedBlock] = {}
        self.num_cached = 0
        self.evictions = 0

    @property
    def total(self) -> int:
        return len(self._references)

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def available(self) -> int:
        """Blocks that could be taken, cached ones evicted."""
        return len(self._free) + self.num_cached

    def references(self, block: int) -> int:
        return self._references[block]

    def find(self, key: bytes) -> CachedBlock | None:
        """The block that is published under `key`."""
        return self._by_key.get(key)

    def published(self, block: int) -> CachedBlock | None:
        """What `block` is published as."""
        return self._by_block.get(block)

    def take(self) -> int:
        """A block to write, with one reference; evicts a cached one if none is free."""
        if not self._free:
            self._evict()
        block = self._free.pop()
        self._references[block] = 1
        return block

    def share(self, block: int) -> None:
        """One more sequence reads `block`, which is in use or cached."""
        published = self._by_block.get(block)
        if self._references[block] == 0:
            assert published is not None, f"block {block} of group {self._group} holds nothing to share"
            self._eviction.remove(published)
            self.num_cached -= 1
        self._references[block] += 1
        if published is not None:
            published.hits += 1

    def release(self, block: int) -> None:
        """One reference less. After the last, a published block stays cached; another one is free."""
        self._references[block] -= 1
        if self._references[block] > 0:
            return
        published = self._by_block.get(block)
        if published is None:
            self._free.append(block)
        else:
            published.last_use = next(self._releases)
            self.num_cached += 1
            self._eviction.add(published)

    def publish(self, block: int, key: bytes, depth: int, parent: bytes | None) -> None:
        """Let others find `block` under `key`. Where equal content is published already, that one stays."""
        if key in self._by_key:
            return
        entry = CachedBlock(group=self._group, block=block, key=key, depth=depth, parent=parent)
        self._by_key[key] = self._by_block[block] = entry
        self._log.publications += 1

    def reset_cache(self) -> None:
        """Free every cached block."""
        for entry in [e for e in self._by_block.values() if self._references[e.block] == 0]:
            self._eviction.remove(entry)
            self._forget(entry)

    def _evict(self) -> None:
        victim = self._eviction.victim(self._group)
        chosen_well = self._by_block.get(victim.block) is victim and self._references[victim.block] == 0
        assert chosen_well, f"{type(self._eviction).__name__} chose {victim}, which is not cached"
        if self._keep is not None:
            self._keep(victim)
        self._eviction.remove(victim)
        self._forget(victim)
        self.evictions += 1

    def _forget(self, entry: CachedBlock) -> None:
        del self._by_key[entry.key], self._by_block[entry.block]
        self.num_cached -= 1
        self._log.remove(entry)
        self._free.append(entry.block)

    def check_integrity(self, references: list[int]) -> None:
        """Assert that every block is in one state, given how many table entries name each."""
        group = f"group {self._group}"
        assert self._references == references, f"{group}: reference counts differ from the tables"
        free = set(self._free)
        assert len(free) == len(self._free), f"{group}: a block is twice on the free list"
        assert free <= set(range(self.total)), f"{group}: the free list names a block that does not exist"
        cached = {block for block in self._by_block if references[block] == 0}
        idle = {block for block, count in enumerate(references) if count == 0}
        assert free == idle - cached, f"{group}: a block leaked or is in use and free"
        assert len(cached) == self.num_cached, f"{group}: {len(cached)} blocks cached, not {self.num_cached}"
        assert len(self._by_key) == len(self._by_block), f"{group}: the index is not one to one"
        for block, entry in self._by_block.items():
            assert (entry.group, entry.block) == (self._group, block), f"{group}: {entry} misnamed"
            assert self._by_key[entry.key] is entry, f"{group}: {entry} is not found by its key"
