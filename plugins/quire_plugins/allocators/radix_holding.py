"""What one sequence holds of a radix tree's pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quire_plugins.allocators.page_tree import PageTree
from quire_plugins.allocators.radix_tree import Node


@dataclass(slots=True, kw_only=True)
class Holding:
    """The first pages of its table are those of `nodes`, the others the sequence's own alone."""

    nodes: list[Node]
    table: list[int]
    tokens: int
    """Tokens that room was asked for."""
    committed: int
    """Tokens computed in steps that were committed, or found."""
    tried: int
    """Whole pages when publishing was last tried."""

    def publish(self, tree: PageTree, tokens: Sequence[int], whole: int) -> None:
        """Let others find the first `whole` pages. Where equal content is published already, that stays, and
        what comes after waits for the sequence to end: it does not hold the other's pages.
        """
        size = tree.page_size
        for depth in range(len(self.nodes), whole):
            parent = self.nodes[-1] if self.nodes else tree.root
            content = tuple(tokens[depth * size : (depth + 1) * size])
            if content in parent.children:
                return
            self.nodes.append(tree.publish(parent, content, self.table[depth], held=True))

    def leave(self, tree: PageTree, tokens: Sequence[int]) -> None:
        """Cache what is computed of it, `tokens`, and not cached by others; free the other pages."""
        size, nodes = tree.page_size, self.nodes
        node = nodes[-1] if nodes else tree.root
        for depth in range(len(nodes), len(self.table)):
            content, page = tuple(tokens[depth * size : (depth + 1) * size]), self.table[depth]
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

    def check_integrity(self, *, name: str, tree: PageTree) -> None:
        """Assert that the table agrees with the nodes and with what was asked for."""
        assert len(self.table) == -(-self.tokens // tree.page_size), f"{name}: {self}"
        assert self.committed <= self.tokens, f"{name}: {self}"
        shared = [node.page for node in self.nodes]
        assert self.table[: len(shared)] == shared, f"{name}: its table differs from its nodes"
        parents = [tree.root, *self.nodes]
        assert all(n.parent is p for n, p in zip(self.nodes, parents, strict=False)), f"{name}: a gap"
