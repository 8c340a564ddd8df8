"""The allocator of RadixAttention: a sequence starts from the longest prefix it has in common with any other.

Zheng et al., "SGLang: efficient execution of structured language model programs", NeurIPS 2024, section 3.
Attention reads pages of `engine.block_size` tokens, so a prefix that ends inside a page cannot be shared up
to there: its whole pages are, and the last is copied, for the sequence to write the rest of its own copy.

    cached    | a b c d | e f g h |
    new       | a b c d | e f x y |     starts at x: shares the first page, copies the second

Whole pages are published as soon as they are computed, the part of a page with which a sequence ends when it
ends or gives way. All KV groups use pages of the same numbers, and windows are not made use of.
"""

from __future__ import annotations

from collections.abc import Sequence as BlockIds
from dataclasses import dataclass, field
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
from quire_plugins.allocators.page_tree import PageTree
from quire_plugins.allocators.radix_tree import Node

if TYPE_CHECKING:
    from quire.engine.queues import QueueView
    from quire.engine.sequence import SequenceView


@dataclass
class RadixConfig:
    """It has no options."""


@dataclass(slots=True, kw_only=True)
class Holding:
    """What a sequence holds: the first pages of its table are those of `nodes`, the others its own alone."""

    nodes: list[Node]
    table: list[int]
    tokens: int
    """Tokens that room was asked for."""
    committed: int
    """Tokens computed in steps that were committed, or found."""
    tried: int = field(default=0)
    """Whole pages when publishing was last tried."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a walk of the tree came to, and what it was asked."""

    version: int
    limit: int
    path: list[Node]
    part: tuple[Node, int] | None
    hit: PrefixHit


class RadixAllocator(KVAllocator):
    """Pages on demand; prefixes are found token by token."""

    Config = RadixConfig

    def __init__(self, *, config: RadixConfig, layout: KVLayout, eviction: EvictionPolicy) -> None:
        del config
        self._size = layout.block_size
        self._layout = layout
        self._groups = range(len(layout.groups))
        self._eviction = eviction
        self._tree = PageTree(
            num_pages=min(layout.num_blocks), page_size=layout.block_size, eviction=eviction
        )
        self._holdings: dict[int, Holding] = {}
        self._found: dict[int, Found] = {}
        self._copies: list[KVCopy] = []
        self._tokens_left = 0  # room in pages beyond what was asked for, of one group
        self._prefix_queries = 0
        self._prefix_hits = 0

    def match(self, seq: SequenceView) -> PrefixHit:
        limit = min(len(seq.token_ids), seq.num_tokens - 1) if seq.shares_prefixes else 0
        return self._search(seq, limit).hit

    def grow(self, seq: SequenceView, num_tokens: int, hit: PrefixHit | None = None) -> bool:
        holding = self._holdings.get(seq.order)
        if holding is None:
            return self._begin(seq, num_tokens, 0 if hit is None else hit.num_tokens)
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
            self._publish(holding, seq.token_ids, whole)

    def free(self, seq: SequenceView) -> None:
        self._found.pop(seq.order, None)
        holding = self._holdings.pop(seq.order, None)
        if holding is None:
            return
        self._tokens_left -= len(holding.table) * self._size - holding.tokens
        self._leave(holding, seq.token_ids[: holding.committed])

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
            self._holdings[child.order] = Holding(nodes=nodes, table=table, tokens=shared, committed=shared)
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
        )

    def reset_cache(self) -> None:
        self._tree.reset_cache()

    def bind(self, queues: QueueView) -> None:
        self._eviction.bind(queues, self.match)

    def _search(self, seq: SequenceView, limit: int) -> Found:
        """What of the first `limit` tokens is cached; walks the tree only where something changed."""
        found = self._found.get(seq.order)
        if found is not None and (found.version, found.limit) == (self._tree.version, limit):
            return found
        path, part = self._tree.walk(seq.token_ids, limit)
        entries: list[int | Place | None] = [node.page for node in path]
        tokens = len(path) * self._size
        if part is not None:
            node, common = part
            entries.append(Place(Tier.DEVICE, node.page))
            tokens += common
        hit = PrefixHit(num_tokens=tokens, blocks=(tuple(entries),) * len(self._groups))
        found = Found(self._tree.version, limit, path, part, hit)
        self._found[seq.order] = found
        return found

    def _begin(self, seq: SequenceView, num_tokens: int, start: int) -> bool:
        """Start from the `start` tokens of the hit that `match` found; nothing has changed since."""
        tree, path, part = self._tree, list[Node](), None
        if start:
            found = self._found[seq.order]
            assert (found.version, found.hit.num_tokens) == (tree.version, start), "a hit of another time"
            path, part = found.path, found.part
        missing = self._layout.blocks_for(num_tokens) - len(path)
        if tree.available - sum(node.references == 0 for node in path) < missing:
            return False
        for node in path:
            tree.hold(node)
        pages = self._pages(missing, None if part is None else part[0])
        holding = Holding(
            nodes=list(path),
            table=[node.page for node in path],
            tokens=len(path) * self._size,
            committed=start,
        )
        holding.tried = len(path)
        self._holdings[seq.order] = holding
        self._lengthen(holding, num_tokens, pages)
        if seq.shares_prefixes and seq.num_preemptions == 0:
            self._prefix_queries += seq.num_prompt_tokens
            self._prefix_hits += start
        return True

    def _pages(self, number: int, source: Node | None) -> list[int]:
        """So many pages, the first of them a copy of that of `source`, if given."""
        tree = self._tree
        if source is None:
            return [tree.take() for _ in range(number)]
        if source.references == 0 and tree.available == number:
            # Every other page that is left is needed too: the one to copy from becomes the copy.
            tree.hold(source)
            others = [tree.take() for _ in range(number - 1)]
            tree.release(source)
            return [tree.forget(source), *others]
        tree.hold(source)
        pages = [self._copied(source.page), *(tree.take() for _ in range(number - 1))]
        tree.release(source)
        return pages

    def _copied(self, source: int) -> int:
        page = self._tree.take()
        for group in self._groups:
            self._copies.append(KVCopy(group, Place(Tier.DEVICE, source), Place(Tier.DEVICE, page)))
        return page

    def _lengthen(self, holding: Holding, num_tokens: int, pages: list[int]) -> None:
        self._tokens_left += len(pages) * self._size - (num_tokens - holding.tokens)
        holding.table.extend(pages)
        holding.tokens = num_tokens

    def _publish(self, holding: Holding, tokens: BlockIds[int], whole: int) -> None:
        """Let others find the first `whole` pages. Where equal content is published already, that stays, and
        what comes after waits for the sequence to end: it does not hold the other's pages.
        """
        for depth in range(len(holding.nodes), whole):
            parent = holding.nodes[-1] if holding.nodes else self._tree.root
            content = tuple(tokens[depth * self._size : (depth + 1) * self._size])
            if content in parent.children:
                return
            holding.nodes.append(self._tree.publish(parent, content, holding.table[depth], held=True))

    def _leave(self, holding: Holding, tokens: BlockIds[int]) -> None:
        """Cache what is computed of `holding` and not cached by others; free its other pages."""
        tree, size, nodes = self._tree, self._size, holding.nodes
        node = nodes[-1] if nodes else tree.root
        for depth in range(len(nodes), len(holding.table)):
            content, page = tuple(tokens[depth * size : (depth + 1) * size]), holding.table[depth]
            known = node.children.get(content)
            covered = node.nearest(content)
            if known is None and content and (covered is None or covered[1] < len(content)):
                nodes.append(tree.publish(node, content, page, held=True))
                node = nodes[-1]
            else:
                tree.give(page)
                if known is not None:
                    tree.hold(known)
                    nodes.append(known)
                    node = known
        for node in reversed(nodes):
            tree.release(node)

    def check_integrity(self) -> None:
        holders: dict[int, int] = {}
        owned: list[int] = []
        for order, holding in self._holdings.items():
            name = f"sequence {order}"
            assert len(holding.table) == self._layout.blocks_for(holding.tokens), f"{name}: {holding}"
            assert holding.committed <= holding.tokens, f"{name}: {holding}"
            shared = [node.page for node in holding.nodes]
            assert holding.table[: len(shared)] == shared, f"{name}: its table differs from its nodes"
            parents = [self._tree.root, *holding.nodes]
            assert all(n.parent is p for n, p in zip(holding.nodes, parents, strict=False)), f"{name}: a gap"
            owned += holding.table[len(shared) :]
            for page in shared:
                holders[page] = holders.get(page, 0) + 1
        self._tree.check_integrity(holders, owned)
        left = sum(len(h.table) * self._size - h.tokens for h in self._holdings.values())
        assert self._tokens_left == left, f"{self._tokens_left} tokens of room left by count, {left} in truth"
