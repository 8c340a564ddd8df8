"""Host memory beneath the device's: evicted prefixes and swapped sequences are kept there and brought back.

    device   | free | used | cached |  --evicted-->   | free | held | cached |   host
                       ^                                         |      |
                       +------------- a sequence starts ---------+------+

A block is copied when a decision needs it, and the copy is made before the next step computes anything. What
is evicted on the device stays cached here, the longest unused of it until its room is needed; what a sequence
had when it was swapped out is held until it comes back or ends (Kwon et al., PagedAttention, SOSP 2023,
section 4.5). A block that goes back to the device stays here as well: to evict it again costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from quire.engine.config import parse_bytes
from quire.interfaces import CachedBlock, KVCopy, Place, Tier
from quire_plugins.allocators.block_pool import BlockPool
from quire_plugins.allocators.index_log import IndexLog
from quire_plugins.eviction.lru import Lru, LruConfig


def parse_host_bytes(text: str | None) -> int:
    """The option `allocator.host_bytes`: bytes of host memory, null for none."""
    return 0 if text is None else parse_bytes(text, field="allocator.host_bytes")


@dataclass(frozen=True, slots=True)
class Kept:
    """A block to keep: where it is on the device, and what it is published as there, if it is."""

    block: int
    published: CachedBlock | None


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is kept of a swapped sequence: the host's blocks of each group in table order, for its first
    `tokens` tokens; None where a window has passed.
    """

    tokens: int
    blocks: tuple[tuple[int | None, ...], ...]


class HostTier:
    """The blocks of host memory, of all groups. `copies` is told what must be copied to them."""

    def __init__(self, *, num_blocks: Sequence[int], log: IndexLog, copies: list[KVCopy]) -> None:
        self._lru = Lru(config=LruConfig())
        uses = count(1)
        self._pools = tuple(
            BlockPool(group=group, num_blocks=blocks, eviction=self._lru, releases=uses, log=log)
            for group, blocks in enumerate(num_blocks)
        )
        self._log = log
        self._copies = copies
        self._parcels: dict[int, Parcel] = {}

    @property
    def total(self) -> int:
        return sum(pool.total for pool in self._pools)

    @property
    def cached(self) -> int:
        return sum(pool.num_cached for pool in self._pools)

    @property
    def used(self) -> int:
        return self.total - self.cached - sum(pool.num_free for pool in self._pools)

    def find(self, group: int, key: bytes) -> CachedBlock | None:
        """The block that holds what is published under `key`."""
        return self._pools[group].find(key)

    def key_of(self, group: int, block: int) -> bytes | None:
        """What `block` is published as."""
        entry = self._pools[group].published(block)
        return None if entry is None else entry.key

    def keep_evicted(self, entry: CachedBlock) -> None:
        """`entry` is about to leave the device; it stays here, unless all blocks are held."""
        pool = self._pools[entry.group]
        found = pool.find(entry.key)
        if found is not None:
            pool.share(found.block)
            pool.release(found.block)  # the latest used now
        elif pool.available:
            pool.release(self._copy_in(entry.group, Kept(entry.block, entry)))

    def on_device(self, group: int, key: bytes) -> None:
        """What is published under `key` is on the device again: whoever found it here should look anew."""
        entry = self._pools[group].find(key)
        if entry is not None:
            self._log.remove(entry)

    def parcel(self, order: int) -> Parcel | None:
        """What is kept of the sequence of that order."""
        return self._parcels.get(order)

    def swap_out(self, order: int, tokens: int, tables: Sequence[Sequence[Kept | None]]) -> bool:
        """Keep `tables`, which hold the first `tokens` tokens of a sequence; False if there is no room."""
        for pool, table in zip(self._pools, tables, strict=True):
            found = [self._already(pool, kept) for kept in table if kept is not None]
            here = [entry for entry in found if entry is not None]
            revived = sum(pool.references(entry.block) == 0 for entry in here)
            if pool.available - revived < len(found) - len(here):
                return False
        for pool, table in zip(self._pools, tables, strict=True):  # before anything is evicted for the others
            for kept in table:
                if kept is not None and (entry := self._already(pool, kept)) is not None:
                    pool.share(entry.block)
        self._parcels[order] = Parcel(
            tokens,
            tuple(
                tuple(None if kept is None else self._place(group, kept) for kept in table)
                for group, table in enumerate(tables)
            ),
        )
        return True

    def drop(self, order: int) -> None:
        """A sequence needs nothing here any more; what of it is published stays cached. A no-op if nothing is
        kept of it.
        """
        parcel = self._parcels.pop(order, None)
        if parcel is not None:
            for group, blocks in enumerate(parcel.blocks):
                for block in reversed(blocks):
                    if block is not None:
                        self._pools[group].release(block)

    @contextmanager
    def pinned(self, blocks: Iterable[tuple[int, int]]) -> Iterator[None]:
        """Groups and blocks that will be copied from: they stay, whatever is kept meanwhile."""
        blocks = tuple(blocks)
        for group, block in blocks:
            self._pools[group].share(block)
        yield
        for group, block in blocks:
            self._pools[group].release(block)

    def reset_cache(self) -> None:
        """Forget every prefix that no swapped sequence needs."""
        for pool in self._pools:
            pool.reset_cache()

    @staticmethod
    def _already(pool: BlockPool, kept: Kept) -> CachedBlock | None:
        """The block here that holds the same, so that nothing need be copied."""
        return None if kept.published is None else pool.find(kept.published.key)

    def _place(self, group: int, kept: Kept) -> int:
        """The block for `kept`, with a reference: that which holds the same, which has it already, or a new
        one.
        """
        entry = self._already(self._pools[group], kept)
        return self._copy_in(group, kept) if entry is None else entry.block

    def _copy_in(self, group: int, kept: Kept) -> int:
        pool = self._pools[group]
        block = pool.take()
        self._copies.append(KVCopy(group, Place(Tier.DEVICE, kept.block), Place(Tier.HOST, block)))
        if kept.published is not None:
            entry = kept.published
            pool.publish(block, entry.key, entry.depth, entry.parent)
        return block

    def check_integrity(self) -> None:
        for group, pool in enumerate(self._pools):
            references = [0] * pool.total
            for parcel in self._parcels.values():
                for block in parcel.blocks[group]:
                    if block is not None:
                        references[block] += 1
            pool.check_integrity(references)
        assert len(self._lru) == self.cached, f"{len(self._lru)} host blocks evictable, {self.cached} cached"
