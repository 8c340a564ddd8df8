"""PagedAttention's allocator: blocks on demand, shared between equal prefixes.

Kwon et al., Efficient Memory Management for Large Language Model Serving with PagedAttention, SOSP 2023,
section 4: KV memory is cut into blocks of a fixed number of tokens, which a block table strings together, so
that a sequence wastes less than one block. Blocks with equal prefixes are found by a digest of all tokens up
to their end and counted by reference. A block is written by one sequence only and found by others only when
it is full and computed, so nothing is ever copied on write. Beneath may be host memory (`host_tier`).

Groups of layers with a sliding window give blocks back as the window passes them; their tables then say None:

    tokens      | 0 | 1 | 2 | 3 | 4 | 5 |
    no window   | 7 | 2 | 9 | 4 | 1 | 8 |
    window      | - | - | - | 5 | 3 | 6 |
"""

from __future__ import annotations

from collections.abc import Sequence as BlockIds
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from quire.interfaces import (
    EvictionPolicy,
    KVAllocator,
    KVCopy,
    KVLayout,
    KVStats,
    Place,
    PrefixHit,
    Tier,
)
from quire_plugins.allocators.block_pool import BlockPool
from quire_plugins.allocators.block_tables import BlockTables
from quire_plugins.allocators.holding import Holding
from quire_plugins.allocators.host_tier import HostTier, Kept, Parcel, parse_host_bytes
from quire_plugins.allocators.index_log import IndexLog
from quire_plugins.allocators.prefix_index import PrefixIndex, Search
from quire_plugins.allocators.prefix_keys import PrefixKeys
from quire_plugins.allocators.windows import first_visible_block, most_blocks

if TYPE_CHECKING:
    from quire.engine.queues import QueueView
    from quire.engine.sequence import SequenceView


@dataclass
class PagedConfig:
    """Blocks on demand with a prefix cache."""

    prefix_cache: bool = True
    """Keep computed blocks for later sequences that begin with the same tokens."""
    host_bytes: str | None = None
    """Host memory for evicted prefixes and swapped sequences: bytes, or a number with KiB, MiB, GiB; null:
    none."""

    def __post_init__(self) -> None:
        parse_host_bytes(self.host_bytes)


class PagedAllocator(KVAllocator):
    """Blocks on demand, all groups at once or none; equal prefixes share theirs."""

    Config = PagedConfig
    releases_windows = True

    def __init__(self, *, config: PagedConfig, layout: KVLayout, eviction: EvictionPolicy) -> None:
        self._config = config
        self._layout = layout
        self._eviction = eviction
        releases, log = count(1), IndexLog()
        self._copies: list[KVCopy] = []
        self._host = None
        if layout.host_blocks:
            self._host = HostTier(num_blocks=layout.host_blocks, log=log, copies=self._copies)
        self._pools = tuple(
            BlockPool(
                group=group,
                num_blocks=blocks,
                eviction=eviction,
                releases=releases,
                log=log,
                keep=None if self._host is None else self._host.keep_evicted,
            )
            for group, blocks in enumerate(layout.num_blocks)
        )
        self._windows = tuple(group.window for group in layout.groups)
        self._index = PrefixIndex(layout=layout, pools=self._pools, host=self._host, log=log)
        self._tables = BlockTables(layout=layout, pools=self._pools, host=self._host, copies=self._copies)
        self._searches: dict[int, Search] = {}
        self._prefix_queries = 0
        self._prefix_hits = 0

    @classmethod
    def host_bytes(cls, config: PagedConfig) -> int:
        return parse_host_bytes(config.host_bytes)

    def match(self, seq: SequenceView) -> PrefixHit:
        parcel = None if self._host is None else self._host.parcel(seq.order)
        if parcel is not None:
            return self._opened(parcel)
        if not self._config.prefix_cache or not seq.shares_prefixes:
            return self._index.no_hit
        tokens = seq.token_ids
        limit = min(len(tokens), seq.num_tokens - 1) // self._layout.block_size
        return self._index.longest(self._search(seq), tokens, limit)

    def grow(self, seq: SequenceView, num_tokens: int, hit: PrefixHit | None = None) -> bool:
        holding = self._tables.get(seq.order)
        if holding is not None:
            return self._tables.grow(holding, num_tokens, seq.num_computed)
        hit = hit or self._index.no_hit
        if not self._tables.begin(seq.order, num_tokens, hit):
            return False
        if self._config.prefix_cache and seq.shares_prefixes and seq.num_preemptions == 0:
            self._prefix_queries += seq.num_prompt_tokens
            self._prefix_hits += hit.num_tokens
        return True

    def commit(self, seq: SequenceView, num_tokens: int) -> None:
        holding = self._tables.get(seq.order)
        assert holding is not None, f"sequence {seq.order} holds nothing"
        holding.committed = num_tokens
        whole = num_tokens // self._layout.block_size
        if whole <= holding.offered or not self._config.prefix_cache:
            return
        keys, tokens = self._search(seq).keys, seq.token_ids
        for depth in range(holding.offered, whole):
            parent = keys.key(depth - 1, tokens) if depth else None
            key = keys.key(depth, tokens)
            for group, (pool, table) in enumerate(zip(self._pools, holding.tables, strict=True)):
                block = table[depth]
                if block is not None:
                    pool.publish(block, key, depth, parent)
                    if self._host is not None:
                        self._host.on_device(group, key)
        holding.offered = whole

    def free(self, seq: SequenceView) -> None:
        if self._host is not None:
            self._host.drop(seq.order)
        self._release(seq)

    def swap_out(self, seq: SequenceView) -> bool:
        holding, host = self._tables.get(seq.order), self._host
        if host is None or holding is None or holding.committed == 0:
            return False
        # What a step under way computes is not kept: its result is dropped, and it may yet fail.
        tokens, size = holding.committed, self._layout.block_size
        visible = [first_visible_block(tokens, window=w, block_size=size) for w in self._windows]
        if any(gone > first for gone, first in zip(holding.passed, visible, strict=True)):
            return False  # a window went on with the step under way, past blocks that are needed without it
        tables: list[list[Kept | None]] = []
        for pool, table, first in zip(self._pools, holding.tables, visible, strict=True):
            blocks = [None] * first + table[first : self._layout.blocks_for(tokens)]
            tables.append([None if block is None else Kept(block, pool.published(block)) for block in blocks])
        if not host.swap_out(seq.order, tokens, tables):
            return False
        self._release(seq)
        return True

    def take_copies(self) -> tuple[KVCopy, ...]:
        if not self._copies:
            return ()
        copies = tuple(self._copies)
        self._copies.clear()
        return copies

    def fork(self, parent: SequenceView, child: SequenceView) -> int:
        holding = self._tables.get(parent.order)
        if holding is None or not child.shares_prefixes:
            return 0
        size = self._layout.block_size
        blocks = min(parent.num_computed, child.num_tokens - 1) // size
        visible = [first_visible_block(blocks * size, window=w, block_size=size) for w in self._windows]
        # Where the parent has given up what the child would still see, a shorter share would see even more.
        if blocks == 0 or any(gone > first for gone, first in zip(holding.passed, visible, strict=True)):
            return 0
        shared = tuple(
            tuple([None] * first + table[first:blocks])
            for table, first in zip(holding.tables, visible, strict=True)
        )
        held = self._tables.share(child.order, shared, blocks * size)
        held.offered = min(holding.offered, blocks)
        held.committed = min(holding.committed, held.tokens)
        known = self._search(parent).keys.known[:blocks]
        self._searches[child.order] = self._new_search(known)
        return blocks * size

    def table(self, seq: SequenceView, group: int) -> BlockIds[int | None]:
        holding = self._tables.get(seq.order)
        return holding.tables[group] if holding is not None else ()

    def fits(self, num_tokens: int) -> bool:
        size, step = self._layout.block_size, self._layout.max_step_tokens
        return all(
            most_blocks(num_tokens, window=w, block_size=size, max_step_tokens=step) <= pool.total
            for pool, w in zip(self._pools, self._windows, strict=True)
        )

    def stats(self) -> KVStats:
        pools = self._pools
        total = sum(pool.total for pool in pools)
        free = sum(pool.num_free for pool in pools)
        cached = sum(pool.num_cached for pool in pools)
        used = total - free - cached
        return KVStats(
            total=total,
            free=free,
            used=used,
            cached=cached,
            # Only a sequence's last block has room left, and such a block is never shared.
            tokens_held=used * self._layout.block_size - self._tables.room_left,
            prefix_queries=self._prefix_queries,
            prefix_hits=self._prefix_hits,
            evictions=sum(pool.evictions for pool in pools),
            host_total=0 if self._host is None else self._host.total,
            host_used=0 if self._host is None else self._host.used,
            host_cached=0 if self._host is None else self._host.cached,
        )

    def reset_cache(self) -> None:
        for pool in self._pools:
            pool.reset_cache()
        if self._host is not None:
            self._host.reset_cache()

    def bind(self, queues: QueueView) -> None:
        self._eviction.bind(queues, self.match)

    def _release(self, seq: SequenceView) -> None:
        """`seq` gives up its blocks of the device, if it holds any."""
        self._searches.pop(seq.order, None)
        self._tables.release(seq.order)

    def _opened(self, parcel: Parcel) -> PrefixHit:
        """What is kept of a sequence, as a hit: what the device still has of it need not be copied."""
        assert self._host is not None
        tables: list[tuple[int | Place | None, ...]] = []
        for group, blocks in enumerate(parcel.blocks):
            table: list[int | Place | None] = []
            for block in blocks:
                key = None if block is None else self._host.key_of(group, block)
                found = None if key is None else self._pools[group].find(key)
                place = None if block is None else Place(Tier.HOST, block)
                table.append(place if found is None else found.block)
            tables.append(tuple(table))
        return PrefixHit(num_tokens=parcel.tokens, blocks=tuple(tables))

    def _search(self, seq: SequenceView) -> Search:
        search = self._searches.get(seq.order)
        if search is None:
            search = self._searches[seq.order] = self._new_search(())
        return search

    def _new_search(self, known: BlockIds[bytes]) -> Search:
        keys = PrefixKeys(block_size=self._layout.block_size, keys=known)
        return Search(keys=keys, hit=self._index.no_hit)

    def check_integrity(self) -> None:
        if self._host is not None:
            self._host.check_integrity()
            swapped = [order for order, _ in self._tables if self._host.parcel(order) is not None]
            assert not swapped, f"sequences {swapped} run and are swapped out"
        self._tables.check_integrity()
        for order, holding in self._tables:
            self._check_entries(order, holding)
        cached = sum(pool.num_cached for pool in self._pools)
        assert len(self._eviction) == cached, f"{len(self._eviction)} blocks evictable, {cached} cached"

    def _check_entries(self, order: int, holding: Holding) -> None:
        """Assert that shared and published blocks are whole, and published as what `holding` holds."""
        whole = holding.tokens // self._layout.block_size
        keys = self._searches[order].keys.known if order in self._searches else ()
        for pool, table in zip(self._pools, holding.tables, strict=True):
            for depth, block in enumerate(table):
                published = pool.published(block) if block is not None else None
                if block is None or (published is None and pool.references(block) == 1):
                    continue
                assert depth < whole, f"block {block} is still written, yet shared or published"
                if published is not None and depth < len(keys):
                    wrong = f"sequence {order} holds {published} at {depth}"
                    assert (published.depth, published.key) == (depth, keys[depth]), wrong
