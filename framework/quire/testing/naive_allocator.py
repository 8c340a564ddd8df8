"""The plainest allocator: blocks on demand, nothing shared, nothing cached.

Suites that need some allocator use it, so that they depend on no plugin; it is also what another allocator's
output can be compared with.
"""

from __future__ import annotations

from collections.abc import Sequence as BlockIds

from quire.engine.sequence import SequenceView
from quire.interfaces.allocator import KVAllocator, KVLayout, KVStats, PrefixHit


class NaiveAllocator(KVAllocator):
    """A table per sequence and group, and a list of free blocks per group. Windows are not made use of."""

    def __init__(self, *, layout: KVLayout) -> None:
        self._layout = layout
        self._free = [list(range(blocks)) for blocks in layout.num_blocks]
        self._tables: dict[str, list[list[int]]] = {}
        self._tokens: dict[str, int] = {}

    def match(self, seq: SequenceView) -> PrefixHit:
        return PrefixHit(num_tokens=0, blocks=((),) * len(self._free))

    def grow(self, seq: SequenceView, num_tokens: int, hit: PrefixHit | None = None) -> bool:
        tables = self._tables.get(seq.id, [[] for _ in self._free])
        missing = max(0, self._layout.blocks_for(num_tokens) - len(tables[0]))
        if missing > min(map(len, self._free)):
            return False
        for table, free in zip(tables, self._free, strict=True):
            table.extend(free.pop() for _ in range(missing))
        self._tables[seq.id] = tables
        self._tokens[seq.id] = max(num_tokens, self._tokens.get(seq.id, 0))
        return True

    def commit(self, seq: SequenceView, num_tokens: int) -> None:
        """Nothing is ever published."""

    def free(self, seq: SequenceView) -> None:
        for table, free in zip(self._tables.pop(seq.id, []), self._free, strict=False):
            free.extend(table)
        self._tokens.pop(seq.id, None)

    def table(self, seq: SequenceView, group: int) -> BlockIds[int | None]:
        return self._tables[seq.id][group] if seq.id in self._tables else ()

    def fits(self, num_tokens: int) -> bool:
        return self._layout.blocks_for(num_tokens) <= min(self._layout.num_blocks)

    def stats(self) -> KVStats:
        total = sum(self._layout.num_blocks)
        free = sum(map(len, self._free))
        return KVStats(
            total=total,
            free=free,
            used=total - free,
            cached=0,
            tokens_held=sum(self._tokens.values()) * len(self._free),
            prefix_queries=0,
            prefix_hits=0,
            evictions=0,
        )

    def check_integrity(self) -> None:
        for group, (free, total) in enumerate(zip(self._free, self._layout.num_blocks, strict=True)):
            held = [block for tables in self._tables.values() for block in tables[group]]
            assert sorted(free + held) == list(range(total)), (
                f"group {group}: a block leaked or is held twice"
            )
