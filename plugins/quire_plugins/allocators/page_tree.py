"""The pages of a radix tree: which are free, held by sequences, or cached and evictable."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from quire.interfaces import CachedBlock, EvictionPolicy
from quire_plugins.allocators.radix_tree import Node, RadixTree


class PageTree(RadixTree):
    """A radix tree whose nodes own their pages, and the pages that nobody owns.

    A node is held by sequences (`references`) or cached. The eviction policy knows the cached leaves: a page
    is of no use without those above it, so it goes after all that is below it. Whatever is below a cached
    node is cached too, so that all of it can be evicted in the end. `keep` is shown the whole pages that are
    about to be evicted.
    """

    def __init__(
        self,
        *,
        num_pages: int,
        page_size: int,
        eviction: EvictionPolicy,
        keep: Callable[[CachedBlock], None] | None = None,
    ) -> None:
        super().__init__(page_size=page_size)
        self._eviction = eviction
        self._keep = keep
        self._free = list(reversed(range(num_pages)))  # a stack: the page freed last is warm in caches
        self._nodes: dict[int, Node] = {}
        self._releases = count(1)
        self.total = num_pages
        self.num_cached = 0
        self.evictions = 0

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def available(self) -> int:
        """Pages that could be taken, cached ones evicted."""
        return len(self._free) + self.num_cached

    def take(self) -> int:
        """A page to write, which belongs to the caller; evicts a cached one if none is free."""
        if not self._free:
            victim = self._nodes[self._eviction.victim(0).block]
            assert victim.references == 0, f"{type(self._eviction).__name__} chose {victim.entry}: it is held"
            self._free.append(self.evict(victim))
        return self._free.pop()

    def evict(self, leaf: Node) -> int:
        """Give up a cached leaf for its page, which belongs to the caller."""
        if self._keep is not None and len(leaf.tokens) == self.page_size:
            self._keep(leaf.entry)
        self.evictions += 1
        return self._forget(leaf)

    def give(self, page: int) -> None:
        """Take back a page that is in no node."""
        self._free.append(page)

    def hold(self, node: Node) -> None:
        """One more sequence has the page of `node`, and holds all above it already."""
        if node.references == 0:
            if not node.children:
                self._eviction.remove(node.entry)
            self.num_cached -= 1
            node.entry.hits += 1
        node.references += 1

    def release(self, node: Node) -> None:
        """One sequence less; it has released all below."""
        node.references -= 1
        if node.references == 0:
            self._cache(node)

    def publish(self, parent: Node, tokens: tuple[int, ...], page: int, *, held: bool) -> Node:
        """`page` becomes a child of `parent`, held by the sequence that computed it or cached."""
        if parent is not self.root and parent.references == 0 and not parent.children:
            self._eviction.remove(parent.entry)
        node = self.insert(parent, tokens, page)
        self._nodes[page] = node
        if held:
            node.references = 1
        else:
            self._cache(node)
        return node

    def reset_cache(self) -> None:
        """Free every cached page, from the leaves on."""
        cached = [node for node in self._nodes.values() if node.references == 0]
        for node in sorted(cached, key=lambda node: node.depth, reverse=True):
            self._free.append(self._forget(node))

    def _forget(self, leaf: Node) -> int:
        """Take a cached leaf out of the tree, and return its page."""
        self._eviction.remove(leaf.entry)
        self.remove(leaf)
        del self._nodes[leaf.page]
        self.num_cached -= 1
        parent = leaf.parent
        if parent is not None and parent is not self.root and parent.references == 0 and not parent.children:
            self._eviction.add(parent.entry)
        return leaf.page

    def _cache(self, node: Node) -> None:
        node.entry.last_use = next(self._releases)
        self.num_cached += 1
        if not node.children:
            self._eviction.add(node.entry)

    def check_integrity(self, holders: dict[int, int], owned: list[int]) -> None:
        """Assert that every page is in one place, given how many sequences hold each node's page, and the
        pages that belong to sequences alone.
        """
        pages = self._free + owned + list(self._nodes)
        assert sorted(pages) == list(range(self.total)), "a page leaked or is in two places"
        leaves = 0
        for page, node in self._nodes.items():
            assert node.page == page, f"page {page} is misnamed: {node.entry}"
            assert node.references == holders.get(page, 0), f"page {page}: {node.references} references"
            assert node.parent is not None
            assert node.parent.children[node.tokens] is node, f"page {page} is not found by its tokens"
            above = node.parent
            assert above is self.root or above.references >= (node.references > 0), f"page {page} hangs free"
            leaves += node.references == 0 and not node.children
        cached = sum(node.references == 0 for node in self._nodes.values())
        assert self.num_cached == cached, f"{cached} pages are cached, not {self.num_cached}"
        assert len(self._eviction) == leaves, f"{len(self._eviction)} pages evictable, {leaves} cached leaves"
