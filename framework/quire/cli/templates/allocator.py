"""Blocks on demand, several at a time; nothing is shared and nothing cached."""

from __future__ import annotations

from collections.abc import Sequence as BlockIds
from dataclasses import dataclass

from quire.engine.sequence import SequenceView
from quire.errors import UserError
from quire.interfaces import EvictionPolicy, KVAllocator, KVLayout, KVStats, PrefixHit


@dataclass
class NewPluginConfig:
    """Options of `allocator=new_plugin`."""

    blocks_at_once: int = 1
    """Blocks by which a sequence grows where memory allows: more waste memory, fewer ask more often."""

    def __post_init__(self) -> None:
        if self.blocks_at_once < 1:
            raise UserError(f"allocator.blocks_at_once={self.blocks_at_once}: must be at least 1")


class NewPlugin(KVAllocator):
    """Blocks on demand, several at a time; no prefix cache, so nothing for `eviction` to order.

    A sequence has one table of equal length in each KV group; windows are not made use of.
    """

    Config = NewPluginConfig

    def __init__(self, *, config: NewPluginConfig, layout: KVLayout, eviction: EvictionPolicy) -> None:
        del eviction
        self._blocks_at_once = config.blocks_at_once
        self._layout = layout
        self._free = [list(range(blocks)) for blocks in layout.num_blocks]
        self._tables: dict[str, list[list[int]]] = {}
        self._tokens: dict[str, int] = {}

    def match(self, seq: SequenceView) -> PrefixHit:
        return PrefixHit(num_tokens=0, blocks=((),) * len(self._free))

    def grow(self, seq: SequenceView, num_tokens: int, hit: PrefixHit | None = None) -> bool:
        tables = self._tables.get(seq.id) or [[] for _ in self._free]
        missing = max(0, self._layout.blocks_for(num_tokens) - len(tables[0]))
        available = min(len(free) for free in self._free)
        if missing > available:
            return False
        if missing:
            missing = min(max(missing, self._blocks_at_once), available)
        for table, free in zip(tables, self._free, strict=True):
            table += [free.pop() for _ in range(missing)]
        self._tables[seq.id] = tables
        self._tokens[seq.id] = max(num_tokens, self._tokens.get(seq.id, 0))
        return True

    def commit(self, seq: SequenceView, num_tokens: int) -> None:
        """Nothing is published."""

    def free(self, seq: SequenceView) -> None:
        self._tokens.pop(seq.id, None)
        for free, table in zip(self._free, self._tables.pop(seq.id, ()), strict=False):
            free += table

    def table(self, seq: SequenceView, group: int) -> BlockIds[int | None]:
        return self._tables[seq.id][group] if seq.id in self._tables else ()

    def fits(self, num_tokens: int) -> bool:
        return self._layout.blocks_for(num_tokens) <= min(self._layout.num_blocks)

    def stats(self) -> KVStats:
        total = sum(self._layout.num_blocks)
        free = sum(len(blocks) for blocks in self._free)
        return KVStats(
            total=total,
            free=free,
            used=total - free,
            cached=0,
            tokens_held=len(self._free) * sum(self._tokens.values()),
            prefix_queries=0,
            prefix_hits=0,
            evictions=0,
        )

    def check_integrity(self) -> None:
        for group, (free, total) in enumerate(zip(self._free, self._layout.num_blocks, strict=True)):
            held = [block for tables in self._tables.values() for block in tables[group]]
            assert sorted(free + held) == list(range(total)), f"group {group}: a block is lost or held twice"
