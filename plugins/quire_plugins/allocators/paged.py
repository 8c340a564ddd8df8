"""PagedAttention's allocator: blocks on demand, shared between equal prefixes.

Kwon et al., Efficient Memory Management for Large Language Model Serving with PagedAttention, SOSP 2023,
section 4: KV memory is cut into blocks of a fixed number of tokens, which a block table strings together, so
that a sequence wastes less than one block. Blocks with equal prefixes are found by a digest of all tokens up
to their end and counted by reference. A block is written by one sequence only and found by others only when
it is full and computed, so nothing is ever copied on write.

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

from quire.interfaces import EvictionPolicy, KVAllocator, KVLayout, KVStats, PrefixHit
from quire_plugins.allocators.block_pool import BlockPool
from quire_plugins.allocators.holding import Holding
from quire_plugins.allocators.index_log import IndexLog
from quire_plugins.allocators.prefix_index import PrefixIndex, Search
from quire_plugins.allocators.prefix_keys import PrefixKeys
from quire_plugins.allocators.windows import first_kept_block, first_visible_block, most_blocks

if TYPE_CHECKING:
    from quire.engine.queues import QueueView
    from quire.engine.sequence import SequenceView


@dataclass
class PagedConfig:
    """Blocks on demand with a prefix cache."""

    prefix_cache: bool = True
    """Keep computed blocks for later sequences that begin with the same tokens."""


class PagedAllocator(KVAllocator):
    """Blocks on demand, all groups at once or none; equal prefixes share theirs."""

    Config = PagedConfig
    releases_windows = True

    def __init__(self, *, config: PagedConfig, layout: KVLayout, eviction: EvictionPolicy) -> None:
        self._config = config
        self._layout = layout
        self._eviction = eviction
        releases, log = count(1), IndexLog()
        self._pools = tuple(
            BlockPool(group=group, num_blocks=blocks, eviction=eviction, releases=releases, log=log)
            for group, blocks in enumerate(layout.num_blocks)
        )
        self._windows = tuple(group.window for group in layout.groups)
        self._index = PrefixIndex(layout=layout, pools=self._pools, log=log)
        self._holdings: dict[int, Holding] = {}
        self._searches: dict[int, Search] = {}
        self._room_left = 0  # tokens, over all groups: used blocks times their size, less what was asked for
        self._prefix_queries = 0
        self._prefix_hits = 0

    def match(self, seq: SequenceView) -> PrefixHit:
        if not self._config.prefix_cache or not seq.shares_prefixes:
            return self._index.no_hit
        tokens = seq.token_ids
        limit = min(len(tokens), seq.num_tokens - 1) // self._layout.block_size
        return self._index.longest(self._search(seq), tokens, limit)

    def grow(self, seq: SequenceView, num_tokens: int, hit: PrefixHit | None = None) -> bool:
        holding = self._holdings.get(seq.order)
        if holding is None:
            return self._begin(seq, num_tokens, hit if hit is not None else self._index.no_hit)
        if num_tokens > holding.capacity and not self._extend(holding, num_tokens, seq.num_computed):
            return False
        if num_tokens > holding.tokens:
            self._room_left -= (num_tokens - holding.tokens) * len(self._pools)
            holding.tokens = num_tokens
        return True

    def commit(self, seq: SequenceView, num_tokens: int) -> None:
        holding = self._holdings[seq.order]
        whole = num_tokens // self._layout.block_size
        if whole <= holding.offered or not self._config.prefix_cache:
            return
        keys, tokens = self._search(seq).keys, seq.token_ids
        for depth in range(holding.offered, whole):
            key = keys.key(depth, tokens)
            for pool, table in zip(self._pools, holding.tables, strict=True):
                block = table[depth]
                if block is not None:
                    pool.publish(block, key, depth)
        holding.offered = whole

    def free(self, seq: SequenceView) -> None:
        self._searches.pop(seq.order, None)
        holding = self._holdings.pop(seq.order, None)
        if holding is None:
            return
        for group, pool in enumerate(self._pools):
            for block in reversed(holding.held(group)):
                pool.release(block)
        self._room_left -= (holding.capacity - holding.tokens) * len(self._pools)

    def fork(self, parent: SequenceView, child: SequenceView) -> int:
        holding = self._holdings.get(parent.order)
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
        self._hold(child, shared, blocks * size).offered = min(holding.offered, blocks)
        known = self._search(parent).keys.known[:blocks]
        self._searches[child.order] = self._new_search(known)
        return blocks * size

    def table(self, seq: SequenceView, group: int) -> BlockIds[int | None]:
        holding = self._holdings.get(seq.order)
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
            tokens_held=used * self._layout.block_size - self._room_left,
            prefix_queries=self._prefix_queries,
            prefix_hits=self._prefix_hits,
            evictions=sum(pool.evictions for pool in pools),
        )

    def reset_cache(self) -> None:
        for pool in self._pools:
            pool.reset_cache()

    def bind(self, queues: QueueView) -> None:
        self._eviction.bind(queues)

    def _begin(self, seq: SequenceView, num_tokens: int, hit: PrefixHit) -> bool:
        missing = self._layout.blocks_for(num_tokens) - hit.num_tokens // self._layout.block_size
        for pool, blocks in zip(self._pools, hit.blocks, strict=True):
            revived = sum(block is not None and pool.references(block) == 0 for block in blocks)
            if pool.available - revived < missing:
                return False
        holding = self._hold(seq, hit.blocks, hit.num_tokens)
        self._append(holding, missing)
        self._room_left -= (num_tokens - holding.tokens) * len(self._pools)
        holding.tokens = num_tokens
        if self._config.prefix_cache and seq.shares_prefixes and seq.num_preemptions == 0:
            self._prefix_queries += seq.num_prompt_tokens
            self._prefix_hits += hit.num_tokens
        return True

    def _hold(
        self, seq: SequenceView, blocks: tuple[tuple[int | None, ...], ...], num_tokens: int
    ) -> Holding:
        """Share `blocks`, which hold the first `num_tokens` tokens, with `seq`, which holds nothing yet."""
        holding = Holding(
            tables=tuple(list(shared) for shared in blocks),
            passed=[shared.count(None) for shared in blocks],
            tokens=num_tokens,
            capacity=num_tokens,
            offered=num_tokens // self._layout.block_size,
        )
        for group, pool in enumerate(self._pools):
            for block in holding.held(group):
                pool.share(block)
        self._holdings[seq.order] = holding
        return holding

    def _extend(self, holding: Holding, num_tokens: int, num_computed: int) -> bool:
        """Give back what the windows have passed, then take blocks for `num_tokens` tokens; or do nothing."""
        size = self._layout.block_size
        missing = self._layout.blocks_for(num_tokens) - len(holding.tables[0])
        keep = [first_kept_block(num_computed, window=w, block_size=size) for w in self._windows]
        for group, pool in enumerate(self._pools):
            gone = holding.held(group, end=keep[group])
            regained = sum(pool.references(block) == 1 for block in gone)
            if pool.available + regained < missing:
                return False
        for group, pool in enumerate(self._pools):
            for block in holding.pass_by(group, keep[group]):
                pool.release(block)
        self._append(holding, missing)
        return True

    def _append(self, holding: Holding, blocks: int) -> None:
        for pool, table in zip(self._pools, holding.tables, strict=True):
            table.extend([pool.take() for _ in range(blocks)])
        tokens = blocks * self._layout.block_size
        holding.capacity += tokens
        self._room_left += tokens * len(self._pools)

    def _search(self, seq: SequenceView) -> Search:
        search = self._searches.get(seq.order)
        if search is None:
            search = self._searches[seq.order] = self._new_search(())
        return search

    def _new_search(self, known: BlockIds[bytes]) -> Search:
        keys = PrefixKeys(block_size=self._layout.block_size, keys=known)
        return Search(keys=keys, hit=self._index.no_hit)

    def check_integrity(self) -> None:
        for order, holding in self._holdings.items():
            holding.check_integrity(name=f"sequence {order}", block_size=self._layout.block_size)
            passed = [p for p, window in zip(holding.passed, self._windows, strict=True) if window is None]
            assert not any(passed), f"sequence {order} lost a block of a group without a window"
            self._check_entries(order, holding)
        for group, pool in enumerate(self._pools):
            references = [0] * pool.total
            for holding in self._holdings.values():
                for block in holding.held(group):
                    references[block] += 1
            pool.check_integrity(references)
        cached = sum(pool.num_cached for pool in self._pools)
        assert len(self._eviction) == cached, f"{len(self._eviction)} blocks evictable, {cached} cached"
        left = sum(h.capacity - h.tokens for h in self._holdings.values()) * len(self._pools)
        assert self._room_left == left, f"{self._room_left} tokens of room left by count, {left} in truth"

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
