"""The search for the longest prefix that a sequence has in common with what is cached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.interfaces import Place, PrefixHit, Tier
from quire_plugins.allocators.host_tier import HostTier
from quire_plugins.allocators.index_log import IndexLog
from quire_plugins.allocators.radix_tree import Node, RadixTree, page_key

if TYPE_CHECKING:
    from quire.engine.sequence import SequenceView

Asked = tuple[int, int, int, int]
"""How many tokens were asked for, and what the tree and host memory were then."""
Blocks = tuple[tuple[int, ...], ...]
"""Of each group, blocks of host memory in order of position."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a sequence may start from: whole pages of the device, then pages of host memory or a part of one
    more of the device's.
    """

    asked: Asked | None
    path: Sequence[Node]
    part: Node | None
    kept: Blocks
    hit: PrefixHit


class RadixSearch:
    """Walks the tree, and from its end on looks for whole pages in host memory, by their names.

    Once more is searched only where something changed.
    """

    def __init__(self, *, tree: RadixTree, num_groups: int, host: HostTier | None, log: IndexLog) -> None:
        self._tree = tree
        self._groups = range(num_groups)
        self._host = host
        self._log = log
        self._found: dict[int, Found] = {}
        no_hit = PrefixHit(num_tokens=0, blocks=((),) * num_groups)
        self.nothing = Found(asked=None, path=(), part=None, kept=((),) * num_groups, hit=no_hit)

    def longest(self, seq: SequenceView) -> Found:
        """What is cached of `seq`, less its last token; or what is kept of it, if it was swapped out."""
        parcel = None if self._host is None else self._host.parcel(seq.order)
        most = seq.num_tokens - 1 if parcel is None else parcel.tokens
        limit = min(len(seq.token_ids), most) if seq.shares_prefixes else 0
        asked = (limit, self._tree.version, self._log.publications, self._log.removals)
        found = self._found.get(seq.order)
        if found is not None and found.asked == asked:
            return found
        path, part = self._tree.walk(seq.token_ids, limit)
        if parcel is not None:
            blocks = tuple(tuple(b for b in table[len(path) :] if b is not None) for table in parcel.blocks)
            found = self._entry(asked, path, None, blocks, parcel.tokens)
        else:
            kept = self._kept(seq.token_ids, path, limit)
            tokens = (len(path) + len(kept[0])) * self._tree.page_size
            if kept[0] or part is None:
                found = self._entry(asked, path, None, kept, tokens)
            else:
                found = self._entry(asked, path, part[0], kept, tokens + part[1])
        self._found[seq.order] = found
        return found

    def forget(self, order: int) -> None:
        """The sequence of that order does not wait any more, or will ask for something else."""
        self._found.pop(order, None)

    def _kept(self, tokens: Sequence[int], path: Sequence[Node], limit: int) -> Blocks:
        """Whole pages after those of `path`, at most up to `limit`, that host memory holds of every group."""
        pages: list[list[int]] = []
        if self._host is not None:
            size = self._tree.page_size
            key = (path[-1] if path else self._tree.root).entry.key
            for start in range(len(path) * size, limit - size + 1, size):
                key = page_key(key, tokens[start : start + size])
                entries = [self._host.find(group, key) for group in self._groups]
                blocks = [entry.block for entry in entries if entry is not None]
                if len(blocks) < len(entries):
                    break
                pages.append(blocks)
        return tuple(tuple(blocks[group] for blocks in pages) for group in self._groups)

    @staticmethod
    def _entry(asked: Asked, path: Sequence[Node], part: Node | None, kept: Blocks, tokens: int) -> Found:
        shared = tuple(node.page for node in path)
        copied = () if part is None else (Place(Tier.DEVICE, part.page),)
        tables = tuple((*shared, *copied, *(Place(Tier.HOST, block) for block in blocks)) for blocks in kept)
        hit = PrefixHit(num_tokens=tokens, blocks=tables)
        return Found(asked=asked, path=path, part=part, kept=kept, hit=hit)
