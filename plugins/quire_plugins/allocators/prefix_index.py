"""The search for the longest cached prefix that every KV group can serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quire.interfaces import KVLayout, PrefixHit
from quire_plugins.allocators.block_pool import BlockPool
from quire_plugins.allocators.prefix_keys import PrefixKeys
from quire_plugins.allocators.windows import first_visible_block


@dataclass(slots=True)
class Search:
    """What the last search for one sequence came to, and how the index stood then."""

    keys: PrefixKeys
    hit: PrefixHit
    unwindowed: int = 0
    """Leading blocks that all groups without a window hold."""
    limit: int = 0
    publications: int = 0
    removals: int = 0


class PrefixIndex:
    """Searches the pools of all groups.

    A group without a window must hold every block of a prefix. One with a window needs only the blocks that
    the next query sees, the last ones:

        prefix             | 0 | 1 | 2 | 3 | 4 | 5 |  next query
        no window          | x | x | x | x | x | x |
        window of 2 blocks                 | x | x |
    """

    def __init__(self, *, layout: KVLayout, pools: Sequence[BlockPool]) -> None:
        self._block_size = layout.block_size
        self._pools = tuple(pools)
        self._windows = tuple(group.window for group in layout.groups)
        self._unwindowed = tuple(pool for pool, w in zip(pools, self._windows, strict=True) if w is None)
        self.no_hit = PrefixHit(num_tokens=0, blocks=((),) * len(self._pools))

    def longest(self, search: Search, token_ids: Sequence[int], limit: int) -> PrefixHit:
        """The longest cached prefix of `token_ids`, at most `limit` blocks.

        Asked again, it goes on where it ended: a block found stays found until one is removed. So a prompt
        that waits for long is neither hashed nor looked up anew in every step.
        """
        publications = sum(pool.publications for pool in self._pools)
        removals = sum(pool.removals for pool in self._pools)
        if (publications, removals, limit) == (search.publications, search.removals, search.limit):
            return search.hit
        if removals != search.removals:
            search.unwindowed, search.hit = 0, self.no_hit
        search.publications, search.removals, search.limit = publications, removals, limit

        blocks = min(search.unwindowed, limit)
        while blocks < limit:
            key = search.keys.key(blocks, token_ids)
            if any(pool.find(key) is None for pool in self._unwindowed):
                break
            blocks += 1
        search.unwindowed = blocks

        blocks = self._within_windows(search.keys.known, blocks)
        if blocks * self._block_size != search.hit.num_tokens:
            search.hit = self._hit(search.keys.known[:blocks])
        return search.hit

    def _within_windows(self, keys: Sequence[bytes], end: int) -> int:
        """The longest prefix, at most `end` blocks, whose last window every group with one holds."""
        settled = False
        while not settled:
            settled = True
            for pool, window in zip(self._pools, self._windows, strict=True):
                if window is not None and (shorter := self._last_run(pool, window, keys, end)) < end:
                    end, settled = shorter, False
        return end

    def _last_run(self, pool: BlockPool, window: int, keys: Sequence[bytes], end: int) -> int:
        """The largest prefix length, at most `end` blocks, whose last window `pool` holds."""
        start = end
        while start > first_visible_block(end * self._block_size, window=window, block_size=self._block_size):
            start -= 1
            if pool.find(keys[start]) is None:
                end = start  # every longer prefix sees this block
        return end

    def _hit(self, keys: Sequence[bytes]) -> PrefixHit:
        num_tokens = len(keys) * self._block_size
        blocks: list[tuple[int | None, ...]] = []
        for pool, window in zip(self._pools, self._windows, strict=True):
            passed = first_visible_block(num_tokens, window=window, block_size=self._block_size)
            found = [pool.find(key) for key in keys[passed:]]
            blocks.append((None,) * passed + tuple(entry.block for entry in found if entry is not None))
        return PrefixHit(num_tokens=num_tokens, blocks=tuple(blocks))
