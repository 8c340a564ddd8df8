"""A tree of cached token sequences, of which every node is the content of one page.

RadixAttention (Zheng et al., "SGLang: efficient execution of structured language model programs", NeurIPS
2024, section 3) keeps computed prefixes in a radix tree, so that the longest common prefix of a new request
with any earlier one is found token by token. KV memory being cut into pages, an edge here is what one page
holds: a whole page, or, at a leaf only, the part of one with which a sequence ended. Siblings differ
somewhere, and may begin alike:

    root -- [a b c d] -+- [e f g h] -- [i j]          pages of 4 tokens
                       +- [e f x y]

A walk goes down whole pages; of the last node's children the one that has the most tokens in common with what
follows is a neighbour of it in lexicographic order, so that bisection finds it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from hashlib import blake2b
from operator import attrgetter
from struct import pack

from quire.interfaces import CachedBlock

_by_tokens = attrgetter("tokens")


def page_key(above: bytes, tokens: Sequence[int]) -> bytes:
    """The name of a page of `tokens`, after all that `above` is the name of."""
    return blake2b(above + pack(f"<{len(tokens)}i", *tokens), digest_size=16).digest()


class Node:
    """One page, whose content depends on all tokens from the root to its end.

    `references` counts the sequences that hold the page in their tables; who holds a page holds all above it.
    """

    __slots__ = ("_sorted", "children", "depth", "entry", "parent", "references", "tokens")

    def __init__(self, *, tokens: tuple[int, ...], page: int, parent: Node | None) -> None:
        self.tokens = tokens
        self.parent = parent
        self.depth = -1 if parent is None else parent.depth + 1
        self.children: dict[tuple[int, ...], Node] = {}
        self.references = 0
        self._sorted: list[Node] = []
        above = b"" if parent is None else parent.entry.key
        self.entry = CachedBlock(
            group=0,
            block=page,
            key=page_key(above, tokens),
            depth=self.depth,
            parent=None if parent is None or parent.parent is None else above,
        )

    @property
    def page(self) -> int:
        return self.entry.block

    def adopt(self, child: Node) -> None:
        self.children[child.tokens] = child
        insort(self._sorted, child, key=_by_tokens)

    def disown(self, child: Node) -> None:
        del self.children[child.tokens]
        del self._sorted[bisect_left(self._sorted, child.tokens, key=_by_tokens)]

    def nearest(self, tokens: tuple[int, ...]) -> tuple[Node, int] | None:
        """The child with the most leading tokens in common with `tokens`, and how many; None if none has."""
        place = bisect_left(self._sorted, tokens, key=_by_tokens)
        around = self._sorted[max(0, place - 1) : place + 1]
        best = max(around, key=lambda child: _common(child.tokens, tokens), default=None)
        common = 0 if best is None else _common(best.tokens, tokens)
        return None if best is None or common == 0 else (best, common)


class RadixTree:
    """Knows content only; who holds which page, and what may be evicted, is the allocator's business."""

    def __init__(self, *, page_size: int) -> None:
        self.root = Node(tokens=(), page=-1, parent=None)
        self.version = 0
        """Grows with every change."""
        self.page_size = page_size

    def walk(self, tokens: Sequence[int], limit: int) -> tuple[list[Node], tuple[Node, int] | None]:
        """The longest cached prefix of the first `limit` of `tokens`: nodes of whole pages, and the node that
        has the most of the page after these, with how many tokens of it.
        """
        path: list[Node] = []
        node, size = self.root, self.page_size
        for start in range(0, limit - size + 1, size):
            child = node.children.get(tuple(tokens[start : start + size]))
            if child is None:
                break
            path.append(child)
            node = child
        start = len(path) * size
        rest = tuple(tokens[start : min(limit, start + size)])
        return path, node.nearest(rest) if rest else None

    def insert(self, parent: Node, tokens: tuple[int, ...], page: int) -> Node:
        """A new child of `parent`, which has none of these tokens."""
        assert tokens not in parent.children
        assert parent is self.root or len(parent.tokens) == self.page_size, "only leaves hold part of a page"
        child = Node(tokens=tokens, page=page, parent=parent)
        parent.adopt(child)
        self.version += 1
        return child

    def remove(self, leaf: Node) -> None:
        assert leaf.parent is not None
        assert not leaf.children, f"page {leaf.page} has others below it"
        leaf.parent.disown(leaf)
        self.version += 1


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many leading tokens are the same."""
    number = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        number += 1
    return number
