"""The search for the longest cached prefix that every KV group can serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quire.interfaces import KVLayout, Place, PrefixHit, Tier
from quire_plugins.allocators.block_pool import BlockPool
from quire_plugins.allocators.host_tier import HostTier
from quire_plugins.allocators.index_log import IndexLog
from quire_plugins.allocators.prefix_keys import PrefixKeys
from quire_plugins.allocators.windows import first_visible_block


@dataclass(slots=True)
class Search:
    """What the last search for one sequence came to, and how the index stood then."""

    keys: PrefixKeys
    hit: PrefixHit
    whole: int = 0
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

    Asked again, a search goes on where it ended, as far as the log of removals leaves it standing. So a
    prompt that waits for long is neither hashed nor looked up anew in every step. What the device does not
    hold may be in host memory.
    """

    def __init__(
        self, *, layout: KVLayout, pools: Sequence[BlockPool], host: HostTier | None, log: IndexLog
    ) -> None:
        self._block_size = layout.block_size
        self._pools = tuple(pools)
        self._windows = tuple(group.window for group in layout.groups)
        self._without_window = [group for group, w in enumerate(self._windows) if w is None]
        self._host = host
        self._log = log
        self.no_hit = PrefixHit(num_tokens=0, blocks=((),) * len(self._pools))

    def longest(self, search: Search, token_ids: Sequence[int], limit: int) -> PrefixHit:
        """The longest cached prefix of `token_ids`, at most `limit` blocks."""
        log = self._log
        if (log.publications, log.removals, limit) == (search.publications, search.removals, search.limit):
            return search.hit
        standing = self._standing(search)
        search.whole = self._whole(search, token_ids, min(search.whole, standing, limit), limit)
        blocks = self._within_windows(search.keys.known, search.whole)
        if blocks != search.hit.num_tokens // self._block_size or standing < blocks:
            search.hit = self._hit(search.keys.known, blocks, search.hit, min(standing, blocks))
        search.publications, search.removals, search.limit = log.publications, log.removals, limit
        return search.hit

    def _standing(self, search: Search) -> int:
        """The number of leading blocks of a search of which none was removed since."""
        standing = len(search.keys.known)
        removed = self._log.removed_since(search.removals)
        if removed is None:
            return 0
        for block in removed:
            if block.depth < standing and search.keys.known[block.depth] == block.key:
                standing = block.depth
        return standing

    def _whole(self, search: Search, token_ids: Sequence[int], blocks: int, limit: int) -> int:
        """Leading blocks, at most `limit`, in every group without a window; the first `blocks` are."""
        while blocks < limit:
            key = search.keys.key(blocks, token_ids)
            for group in self._without_window:
                if self._find(group, key) is None:
                    return blocks
            blocks += 1
        return blocks

    def _find(self, group: int, key: bytes) -> int | Place | None:
        """Where the block of that key is, better on the device."""
        entry = self._pools[group].find(key)
        if entry is not None:
            return entry.block
        if self._host is None:
            return None
        entry = self._host.find(group, key)
        return None if entry is None else Place(Tier.HOST, entry.block)

    def _within_windows(self, keys: Sequence[bytes], end: int) -> int:
        """The longest prefix, at most `end` blocks, whose last window every group with one holds."""
        settled = False
        while not settled:
            settled = True
            for group, window in enumerate(self._windows):
                if window is not None and (shorter := self._last_run(group, window, keys, end)) < end:
                    end, settled = shorter, False
        return end

    def _last_run(self, group: int, window: int, keys: Sequence[bytes], end: int) -> int:
        """The largest prefix length, at most `end` blocks, whose last window `group` holds."""
        start = end
        while start > first_visible_block(end * self._block_size, window=window, block_size=self._block_size):
            start -= 1
            if self._find(group, keys[start]) is None:
                end = start  # every longer prefix sees this block
        return end

    def _hit(self, keys: Sequence[bytes], end: int, last: PrefixHit, standing: int) -> PrefixHit:
        """The hit of `end` blocks. Up to `standing` blocks it is as the last one was, windows aside."""
        num_tokens = end * self._block_size
        tables: list[tuple[int | Place | None, ...]] = []
        for group, (window, table) in enumerate(zip(self._windows, last.blocks, strict=True)):
            known: tuple[int | Place | None, ...] = table[:standing]
            if window is not None:
                passed = first_visible_block(num_tokens, window=window, block_size=self._block_size)
                known = (None,) * passed
            tables.append(known + tuple([self._find(group, key) for key in keys[len(known) : end]]))
        return PrefixHit(num_tokens=num_tokens, blocks=tuple(tables))
