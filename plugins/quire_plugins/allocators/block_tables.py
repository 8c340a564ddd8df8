"""The block tables of all sequences, over the blocks of every KV group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from quire.interfaces import KVCopy, KVLayout, Place, PrefixHit, Tier
from quire_plugins.allocators.block_pool import BlockPool
from quire_plugins.allocators.holding import Holding
from quire_plugins.allocators.host_tier import HostTier
from quire_plugins.allocators.windows import first_kept_block

Entries = tuple[tuple[int | Place | None, ...], ...]
"""Of each group, table entries as in a `PrefixHit`."""


class BlockTables:
    """Who holds which blocks, by the order of a sequence. All groups of one change together, or none does.

    What lies in host memory is copied to blocks taken for it: `copies` is told.
    """

    def __init__(
        self, *, layout: KVLayout, pools: Sequence[BlockPool], host: HostTier | None, copies: list[KVCopy]
    ) -> None:
        self._layout = layout
        self._pools = tuple(pools)
        self._windows = tuple(group.window for group in layout.groups)
        self._host = host
        self._copies = copies
        self._holdings: dict[int, Holding] = {}
        self.room_left = 0
        """Tokens, over all groups: blocks in tables times their size, less what was asked for."""

    def __iter__(self) -> Iterator[tuple[int, Holding]]:
        return iter(self._holdings.items())

    def get(self, order: int) -> Holding | None:
        return self._holdings.get(order)

    def begin(self, order: int, num_tokens: int, hit: PrefixHit) -> bool:
        """Tables for `num_tokens` tokens, of which `hit` holds the first; False if blocks lack."""
        missing = self._layout.blocks_for(num_tokens) - self._layout.blocks_for(hit.num_tokens)
        for pool, blocks in zip(self._pools, hit.blocks, strict=True):
            revived = sum(isinstance(block, int) and pool.references(block) == 0 for block in blocks)
            copied = sum(isinstance(block, Place) for block in blocks)
            if pool.available - revived < missing + copied:
                return False
        holding = self.share(order, hit.blocks, hit.num_tokens)
        if self._host is not None:
            self._host.drop(order)  # what was kept of it is back
        self._append(holding, missing)
        self._use(holding, num_tokens)
        return True

    def share(self, order: int, blocks: Entries, num_tokens: int) -> Holding:
        """Tables of `blocks`, which hold the first `num_tokens` tokens, for a sequence that holds nothing
        yet; those that are elsewhere are copied.
        """
        for pool, table in zip(self._pools, blocks, strict=True):
            for block in table:
                if isinstance(block, int):
                    pool.share(block)
        length = self._layout.blocks_for(num_tokens)
        holding = Holding(
            tables=self._fetched(blocks),
            passed=[table.count(None) for table in blocks],
            tokens=num_tokens,
            capacity=length * self._layout.block_size,
            committed=num_tokens,
            offered=min(_leading_shared(table) for table in blocks),
        )
        self.room_left += (holding.capacity - num_tokens) * len(self._pools)
        self._holdings[order] = holding
        return holding

    def grow(self, holding: Holding, num_tokens: int, num_computed: int) -> bool:
        """Room for `num_tokens` tokens; blocks that windows have passed are given back for it first. False,
        and nothing has changed, if blocks lack.
        """
        if num_tokens > holding.capacity and not self._extend(holding, num_tokens, num_computed):
            return False
        if num_tokens > holding.tokens:
            self._use(holding, num_tokens)
        return True

    def release(self, order: int) -> None:
        """A sequence gives up its blocks, if it holds any."""
        holding = self._holdings.pop(order, None)
        if holding is None:
            return
        for group, pool in enumerate(self._pools):
            for block in reversed(holding.held(group)):
                pool.release(block)
        self.room_left -= (holding.capacity - holding.tokens) * len(self._pools)

    def _extend(self, holding: Holding, num_tokens: int, num_computed: int) -> bool:
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
        self.room_left += tokens * len(self._pools)

    def _use(self, holding: Holding, num_tokens: int) -> None:
        self.room_left -= (num_tokens - holding.tokens) * len(self._pools)
        holding.tokens = num_tokens

    def _fetched(self, blocks: Entries) -> tuple[list[int | None], ...]:
        """`blocks` as tables. None of what is in host memory may be evicted there while blocks are taken."""
        sources = [
            (group, depth, place)
            for group, table in enumerate(blocks)
            for depth, place in enumerate(table)
            if isinstance(place, Place)
        ]
        tables = tuple([block if isinstance(block, int) else None for block in table] for table in blocks)
        if self._host is not None and sources:
            with self._host.pinned((group, place.block) for group, _, place in sources):
                for group, depth, place in sources:
                    block = tables[group][depth] = self._pools[group].take()
                    self._copies.append(KVCopy(group, place, Place(Tier.DEVICE, block)))
        return tables

    def check_integrity(self) -> None:
        """Assert that tables, pools and the room left agree."""
        for order, holding in self._holdings.items():
            holding.check_integrity(name=f"sequence {order}", block_size=self._layout.block_size)
            passed = [p for p, window in zip(holding.passed, self._windows, strict=True) if window is None]
            assert not any(passed), f"sequence {order} lost a block of a group without a window"
        for group, pool in enumerate(self._pools):
            references = [0] * pool.total
            for holding in self._holdings.values():
                for block in holding.held(group):
                    references[block] += 1
            pool.check_integrity(references)
        left = sum(h.capacity - h.tokens for h in self._holdings.values()) * len(self._pools)
        assert self.room_left == left, f"{self.room_left} tokens of room left by count, {left} in truth"


def _leading_shared(table: tuple[int | Place | None, ...]) -> int:
    """Leading entries that need not be copied."""
    return next((depth for depth, block in enumerate(table) if isinstance(block, Place)), len(table))
