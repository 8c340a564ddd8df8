"""The allocator of RadixAttention: a sequence starts from the longest prefix it has in common with any other.

Zheng et al., "SGLang: efficient execution of structured language model programs", NeurIPS 2024, section 3.
Attention reads pages of `engine.block_size` tokens, so a prefix that ends inside a page cannot be shared up
to there: its whole pages are, and the last is copied, for the sequence to write the rest of its own copy.

    cached    | a b c d | e f g h |
    new       | a b c d | e f x y |     starts at x: shares the first page, copies the second

Whole pages are published as soon as they are computed, the part of a page with which a sequence ends when it
ends or gives way. All KV groups use pages of the same numbers, and windows are not made use of. Beneath may
be host memory (`host_tier`), where whole pages are kept and found.
"""

from __future__ import annotations

from collections.abc import Sequence as BlockIds
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from quire.interfaces import (
    CachedBlock,
    EvictionPolicy,
    KVAllocator,
    KVCopy,
    KVLayout,
    KVStats,
    Place,
    PrefixHit,
    Tier,
)
from quire_plugins.allocators.host_tier import HostTier, Kept, parse_host_bytes
from quire_plugins.allocators.index_log import IndexLog
from quire_plugins.allocators.page_tree import PageTree
from quire_plugins.allocators.radix_holding import Holding
from quire_plugins.allocators.radix_search import Found, RadixSearch

if TYPE_CHECKING:
    from quire.engine.queues import QueueView
    from quire.engine.sequence import SequenceView


@dataclass
class RadixConfig:
    """Pages on demand with a prefix cache that is found token by token."""

    host_bytes: str | None = None
    """Host memory for evicted pages and swapped sequences: bytes, or a number with KiB, MiB, GiB; null:
    none."""

    def __post_init__(self) -> None:
        parse_host_bytes(self.host_bytes)


class RadixAllocator(KVAllocator):
    """Pages on demand; prefixes are found token by token."""

    Config = RadixConfig

    def __init__(self, *, config: RadixConfig, layout: KVLayout, eviction: EvictionPolicy) -> None:
        del config
        self._size = layout.block_size
        self._layout = layout
        self._groups = range(len(layout.groups))
        self._eviction = eviction
        self._copies: list[KVCopy] = []
        log = IndexLog()
        self._host = None
        if layout.host_blocks:
            self._host = HostTier(num_blocks=layout.host_blocks, log=log, copies=self._copies)
        self._tree = PageTree(
            num_pages=min(layout.num_blocks),
            page_size=layout.block_size,
            eviction=eviction,
            keep=None if self._host is None else self._keep_evicted,
        )
        self._search = RadixSearch(tree=self._tree, num_groups=len(layout.groups), host=self._host, log=log)
        self._holdings: dict[int, Holding] = {}
        self._tokens_left = 0  # room in pages beyond what was asked for, of one group
        self._prefix_queries = 0
        self._prefix_hits = 0

    @classmethod
    def host_bytes(cls, config: RadixConfig) -> int:
        return parse_host_bytes(config.host_bytes)

    def match(self, seq: SequenceView) -> PrefixHit:
        return self._search.longest(seq).hit

    def grow(self, seq: SequenceView, num_tokens: int, hit: PrefixHit | None = None) -> bool:
        holding = self._holdings.get(seq.order)
        if holding is None:
            found = self._search.nothing if hit is None else self._search.longest(seq)
            assert hit in (None, found.hit), "a hit of another time"
            return self._begin(seq, num_tokens, found)
        missing = self._layout.blocks_for(num_tokens) - len(holding.table)
        if missing > self._tree.available:
            return False
        if num_tokens > holding.tokens:
            self._lengthen(holding, num_tokens, [self._tree.take() for _ in range(missing)])
        return True

    def commit(self, seq: SequenceView, num_tokens: int) -> None:
        holding = self._holdings[seq.order]
        holding.committed = num_tokens
        whole = num_tokens // self._size
        if whole > holding.tried:
            holding.tried = whole
            holding.publish(self._tree, seq.token_ids, whole)

    def free(self, seq: SequenceView) -> None:
        if self._host is not None:
            self._host.drop(seq.order)
        self._release(seq)

    def swap_out(self, seq: SequenceView) -> bool:
        holding, host = self._holdings.get(seq.order), self._host
        if host is None or holding is None or holding.committed == 0:
            return False
        # What a step under way computes is not kept: its result is dropped, and it may yet fail.
        pages = holding.table[: self._layout.blocks_for(holding.committed)]
        published = [node.entry for node in holding.nodes[: len(pages)]]
        own: list[CachedBlock | None] = [None] * (len(pages) - len(published))
        table = [Kept(page, entry) for page, entry in zip(pages, [*published, *own], strict=True)]
        if not host.swap_out(seq.order, holding.committed, [table for _ in self._groups]):
            return False
        self._release(seq)
        return True

    def fork(self, parent: SequenceView, child: SequenceView) -> int:
        holding = self._holdings.get(parent.order)
        limit = child.num_tokens - 1
        if holding is None or not child.shares_prefixes:
            return 0
        computed = min(holding.committed, limit)
        whole = min(computed // self._size, len(holding.nodes))
        for node in holding.nodes[:whole]:
            self._tree.hold(node)
        table = [node.page for node in holding.nodes[:whole]]
        shared = whole * self._size
        if whole == computed // self._size and computed > shared and self._tree.available:
            table.append(self._copied(holding.table[whole]))
            shared = computed
        if shared:
            nodes = holding.nodes[:whole]
            self._holdings[child.order] = Holding(
                nodes=nodes, table=table, tokens=shared, committed=shared, tried=0
            )
            self._tokens_left += len(table) * self._size - shared
        return shared

    def table(self, seq: SequenceView, group: int) -> BlockIds[int | None]:
        holding = self._holdings.get(seq.order)
        return holding.table if holding is not None else ()

    def fits(self, num_tokens: int) -> bool:
        return self._layout.blocks_for(num_tokens) <= self._tree.total

    def take_copies(self) -> tuple[KVCopy, ...]:
        if not self._copies:
            return ()
        copies = tuple(self._copies)
        self._copies.clear()
        return copies

    def stats(self) -> KVStats:
        tree, groups = self._tree, len(self._groups)
        total, cached = sum(self._layout.num_blocks), tree.num_cached * groups
        used = (tree.total - tree.available) * groups
        return KVStats(
            total=total,
            free=total - used - cached,
            used=used,
            cached=cached,
            tokens_held=used * self._size - self._tokens_left * groups,
            prefix_queries=self._prefix_queries,
            prefix_hits=self._prefix_hits,
            evictions=tree.evictions * groups,
            host_total=0 if self._host is None else self._host.total,
            host_used=0 if self._host is None else self._host.used,
            host_cached=0 if self._host is None else self._host.cached,
        )

    def reset_cache(self) -> None:
        self._tree.reset_cache()
        if self._host is not None:
            self._host.reset_cache()

    def bind(self, queues: QueueView) -> None:
        self._eviction.bind(queues, self.match)

    def _release(self, seq: SequenceView) -> None:
        """`seq` gives up its pages of the device, if it holds any."""
        self._search.forget(seq.order)
        holding = self._holdings.pop(seq.order, None)
        if holding is not None:
            self._tokens_left -= len(holding.table) * self._size - holding.tokens
            holding.leave(self._tree, seq.token_ids[: holding.committed])

    def _begin(self, seq: SequenceView, num_tokens: int, found: Found) -> bool:
        """Start from what `match` found; nothing has changed since."""
        tree, path, start = self._tree, found.path, found.hit.num_tokens
        missing = self._layout.blocks_for(num_tokens) - len(path)
        if tree.available - sum(node.references == 0 for node in path) < missing:
            return False
        for node in path:
            tree.hold(node)
        pages = self._pages(missing, found)
        if self._host is not None:
            self._host.drop(seq.order)
        holding = Holding(
            nodes=list(path),
            table=[node.page for node in path],
            tokens=len(path) * self._size,
            committed=start,
            tried=len(path),
        )
        self._holdings[seq.order] = holding
        self._lengthen(holding, num_tokens, pages)
        if seq.shares_prefixes and seq.num_preemptions == 0:
            self._prefix_queries += seq.num_prompt_tokens
            self._prefix_hits += start
        return True

    def _pages(self, number: int, found: Found) -> list[int]:
        """So many pages, the first of them copies of what was found and cannot be shared."""
        tree, source = self._tree, found.part
        if self._host is not None and found.kept[0]:
            with self._host.pinned((g, block) for g, blocks in enumerate(found.kept) for block in blocks):
                pages = [tree.take() for _ in range(number)]
            for group, blocks in enumerate(found.kept):
                for block, page in zip(blocks, pages, strict=False):
                    self._copies.append(KVCopy(group, Place(Tier.HOST, block), Place(Tier.DEVICE, page)))
            return pages
        if source is None:
            return [tree.take() for _ in range(number)]
        if source.references == 0 and tree.available == number:
            # Every other page that is left is needed too: the one to copy from becomes the copy.
            tree.hold(source)
            others = [tree.take() for _ in range(number - 1)]
            tree.release(source)
            return [tree.evict(source), *others]
        tree.hold(source)
        pages = [self._copied(source.page), *(tree.take() for _ in range(number - 1))]
        tree.release(source)
        return pages

    def _keep_evicted(self, entry: CachedBlock) -> None:
        """A page is about to leave the device: its block of every group may stay in host memory."""
        assert self._host is not None
        for group in self._groups:
            self._host.keep_evicted(replace(entry, group=group))

    def _copied(self, source: int) -> int:
        page = self._tree.take()
        for group in self._groups:
            self._copies.append(KVCopy(group, Place(Tier.DEVICE, source), Place(Tier.DEVICE, page)))
        return page

    def _lengthen(self, holding: Holding, num_tokens: int, pages: list[int]) -> None:
        self._tokens_left += len(pages) * self._size - (num_tokens - holding.tokens)
        holding.table.extend(pages)
        holding.tokens = num_tokens

    def check_integrity(self) -> None:
        if self._host is not None:
            self._host.check_integrity()
            swapped = [order for order in self._holdings if self._host.parcel(order) is not None]
            assert not swapped, f"sequences {swapped} run and are swapped out"
        holders: dict[int, int] = {}
        owned: list[int] = []
        for order, holding in self._holdings.items():
            holding.check_integrity(name=f"sequence {order}", tree=self._tree)
            own = len(holding.nodes)
            owned += holding.table[own:]
            for page in holding.table[:own]:
                holders[page] = holders.get(page, 0) + 1
        self._tree.check_integrity(holders, owned)
        left = sum(len(h.table) * self._size - h.tokens for h in self._holdings.values())
        assert self._tokens_left == left, f"{self._tokens_left} tokens of room left by count, {left} in truth"
