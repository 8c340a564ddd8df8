"""What every slot of KV memory holds, and what follows from that for each sequence.

The memory maps (group, block, offset) to what was last written there: the tokens from the start of the
sequence up to that position, on which a key and a value depend, and whether they were really computed yet.
A sequence may be served from a slot only if it holds exactly that sequence's own tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from quire.engine.sequence import Sequence, SequenceView, Status
from quire.interfaces.allocator import KVAllocator, KVCopy, KVLayout, KVStats, Place, PrefixHit, Tier


@dataclass(slots=True)
class Cell:
    """What one token's slot holds."""

    prefix: tuple[int, ...]
    computed: bool


@dataclass(slots=True)
class Living:
    """A sequence and what the oracle knows of it. `truth` has the tokens that steps under way sample."""

    sequence: Sequence
    truth: list[int]
    flights: deque[int] = field(default_factory=deque[int])
    """For each step under way: how many tokens are computed after it."""
    collected: int = 0
    """Tokens computed in steps that were collected, or found."""
    swapped: bool = False
    """Whether what is computed of it is kept in host memory."""

    @property
    def view(self) -> SequenceView:
        return self.sequence.view

    @property
    def running(self) -> bool:
        return self.sequence.status is Status.RUNNING

    @property
    def can_step(self) -> bool:
        return not self.sequence.will_reach_limit and len(self.flights) < 2

    def prefix(self, position: int) -> tuple[int, ...]:
        return tuple(self.truth[: position + 1])


class KVOracle:
    """Watches an allocator: told what is written and computed, it checks what the tables show."""

    def __init__(self, *, allocator: KVAllocator, layout: KVLayout) -> None:
        self._allocator = allocator
        self._layout = layout
        self._groups = range(len(layout.groups))
        self._memory: dict[tuple[int, Place, int], Cell] = {}
        self._last = allocator.stats()

    def write(self, living: Living, position: int, others: Iterable[Living]) -> None:
        """A step stores the token at `position`, in blocks that nobody else may hold."""
        index, offset = divmod(position, self._layout.block_size)
        for group in self._groups:
            block = self._allocator.table(living.view, group)[index]
            assert block is not None, f"no room at {position} in group {group}, though grow granted it"
            for other in others:
                shared = other is not living and block in self._allocator.table(other.view, group)
                assert not shared, f"{living.view} writes block {block}, which {other.view} holds too"
            place = Place(Tier.DEVICE, block)
            self._memory[group, place, offset] = Cell(living.prefix(position), computed=False)

    def copy(self, copies: Iterable[KVCopy]) -> None:
        """Blocks are copied, as all steps submitted so far leave them: what these wrote is computed."""
        for copy in copies:
            for offset in range(self._layout.block_size):
                cell = self._memory.get((copy.group, copy.source, offset))
                self._memory.pop((copy.group, copy.target, offset), None)
                if cell is not None:
                    self._memory[copy.group, copy.target, offset] = Cell(cell.prefix, computed=True)

    def mark_computed(self, living: Living, end: int) -> None:
        """The step that stored the last of the first `end` tokens has been computed."""
        for position in range(end):
            for group in self._groups:
                cell = self._cell(self._allocator.table(living.view, group), group, position)
                if cell is not None:
                    cell.computed = True

    def tables(self, living: Living) -> list[list[int | None]]:
        return [list(self._allocator.table(living.view, group)) for group in self._groups]

    def check_visible(self, living: Living) -> None:
        """Everything that the next query sees is in memory, and is this sequence's own."""
        for group, position in self._seen_from(living.sequence.num_computed):
            cell = self._cell(self._allocator.table(living.view, group), group, position)
            found, own = cell.prefix if cell is not None else "no block", living.prefix(position)
            assert found == own, f"{living.view} sees {found} at {position} of group {group}, not {own}"

    def check_holds_nothing(self, living: Living) -> None:
        for group in self._groups:
            assert len(self._allocator.table(living.view, group)) == 0, f"{living.view} holds memory"

    def check_hit(self, living: Living, hit: PrefixHit) -> None:
        """A hit shows computed blocks of the sequence's own tokens: all that will be seen of them. One that
        is shared is whole; of what will be copied the last need not be.
        """
        end, size = hit.num_tokens, self._layout.block_size
        assert end < living.view.num_tokens, f"{hit} leaves nothing to compute of {living.view}"
        own = living.view.shares_prefixes or living.swapped
        assert own or end == 0, f"{living.view} must be computed in whole"
        for group in self._groups:
            assert len(hit.blocks[group]) == -(-end // size), f"{hit}: wrong table length in group {group}"
            last = hit.blocks[group][-1] if end % size else None
            assert not isinstance(last, int), f"{hit} shares a block of which it is to write the rest"
        for group, position in self._seen_from(end):
            cell = self._cell(hit.blocks[group], group, position)
            own = Cell(living.prefix(position), computed=True)
            assert cell == own, f"{hit} shows {cell} at {position} of group {group}, not {own}"

    def check_stats(self, everybody: Iterable[Living]) -> None:
        stats = self._allocator.stats()
        used = {
            (group, block)
            for living in everybody
            for group in self._groups
            for block in self._allocator.table(living.view, group)
            if block is not None
        }
        for group, block in used:
            assert 0 <= block < self._layout.num_blocks[group], f"group {group} has no block {block}"
        assert stats.total == sum(self._layout.num_blocks), f"{self._layout} has another total: {stats}"
        assert stats.free + stats.used + stats.cached == stats.total, f"blocks are not conserved: {stats}"
        assert stats.used == len(used), f"{len(used)} blocks stand in tables: {stats}"
        assert stats.host_total == sum(self._layout.host_blocks), f"{self._layout} has other memory: {stats}"
        assert 0 <= stats.host_used + stats.host_cached <= stats.host_total, f"host memory: {stats}"
        assert 0 <= stats.tokens_held <= stats.used * self._layout.block_size, f"tokens_held: {stats}"
        assert stats.prefix_hits <= stats.prefix_queries, f"more found than looked for: {stats}"
        self._check_counters_only_grow(stats)

    def _check_counters_only_grow(self, stats: KVStats) -> None:
        last, self._last = self._last, stats
        for name in ("prefix_queries", "prefix_hits", "evictions"):
            assert getattr(stats, name) >= getattr(last, name), f"{name} decreased: {last}, {stats}"

    def _seen_from(self, position: int) -> Iterator[tuple[int, int]]:
        """Each group with each position before `position` that a query there sees."""
        for group, spec in enumerate(self._layout.groups):
            first = 0 if spec.window is None else max(0, position - spec.window + 1)
            for seen in range(first, position):
                yield group, seen

    def _cell(self, table: Iterable[int | Place | None], group: int, position: int) -> Cell | None:
        """What `table` shows at `position`; None where it has no block."""
        blocks = tuple(table)
        index, offset = divmod(position, self._layout.block_size)
        place = blocks[index] if index < len(blocks) else None
        if place is None:
            return None
        if isinstance(place, int):
            place = Place(Tier.DEVICE, place)
        return self._memory.get((group, place, offset))
