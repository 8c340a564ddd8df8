"""The allocator before PagedAttention: every sequence reserves adjacent memory for all it may become.

Orca (Yu et al., OSDI 2022, section 5) and FasterTransformer keep the keys and values of a request in one
piece, reserved at admission for the prompt and the most tokens it may generate. What is reserved and never
used, and the gaps between pieces, are the waste that PagedAttention removed (Kwon et al., SOSP 2023,
section 3.1): `tokens_held` against used blocks shows the first, refusals in spite of free blocks the second.

Nothing is shared and windows are not made use of: a sequence reserves as many blocks of every group.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence as BlockIds
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces import EvictionPolicy, KVAllocator, KVLayout, KVStats, PrefixHit
from quire_plugins.allocators.free_runs import FreeRuns

if TYPE_CHECKING:
    from quire.engine.sequence import SequenceView


class Reserve(enum.Enum):
    """How much a sequence reserves at admission."""

    max_tokens = "max_tokens"
    """Its prompt and all the output that it declared."""
    fixed = "fixed"
    """Its tokens so far and `reserve_tokens` more. It then grows in place while the next blocks are free, and
    must otherwise be preempted, to start anew in a larger piece: each time with twice the reserve, so that
    two sequences that are in each other's way cannot go on like that forever."""


@dataclass
class ContiguousConfig:
    """One piece of memory per sequence, reserved at admission."""

    reserve: Reserve = Reserve.max_tokens
    """max_tokens: prompt and declared output; fixed: tokens so far and `reserve_tokens` more."""
    reserve_tokens: int = 128
    """Tokens reserved ahead where `reserve` is fixed."""

    def __post_init__(self) -> None:
        if self.reserve_tokens < 1:
            raise UserError(f"allocator.reserve_tokens={self.reserve_tokens}: must be at least 1")


@dataclass(slots=True, kw_only=True)
class Piece:
    """Adjacent blocks of each group: `length` from `starts[g]` on."""

    starts: tuple[int, ...]
    length: int
    tokens: int
    """Tokens that room was asked for."""


class ContiguousAllocator(KVAllocator):
    """First fit over runs of free blocks. There is no prefix cache, so nothing for `eviction` to order."""

    Config = ContiguousConfig

    def __init__(self, *, config: ContiguousConfig, layout: KVLayout, eviction: EvictionPolicy) -> None:
        self._config = config
        self._layout = layout
        self._free = tuple(FreeRuns(blocks) for blocks in layout.num_blocks)
        self._pieces: dict[int, Piece] = {}
        self._tokens_held = 0  # of all groups
        self._no_hit = PrefixHit(num_tokens=0, blocks=((),) * len(layout.groups))

    def match(self, seq: SequenceView) -> PrefixHit:
        return self._no_hit

    def grow(self, seq: SequenceView, num_tokens: int, hit: PrefixHit | None = None) -> bool:
        piece = self._pieces.get(seq.order)
        needed = self._layout.blocks_for(num_tokens)
        if piece is None:
            piece = self._reserve(self._layout.blocks_for(self._reservation(seq, num_tokens)))
            if piece is None:
                return False
            self._pieces[seq.order] = piece
        elif needed > piece.length:
            wanted = self._layout.blocks_for(self._reservation(seq, num_tokens))
            if not self._extend(piece, needed, wanted):
                return False
        if num_tokens > piece.tokens:
            self._tokens_held += (num_tokens - piece.tokens) * len(self._free)
            piece.tokens = num_tokens
        return True

    def commit(self, seq: SequenceView, num_tokens: int) -> None:
        """Nothing is ever published."""

    def free(self, seq: SequenceView) -> None:
        piece = self._pieces.pop(seq.order, None)
        if piece is None:
            return
        for free, start in zip(self._free, piece.starts, strict=True):
            free.give(start, piece.length)
        self._tokens_held -= piece.tokens * len(self._free)

    def table(self, seq: SequenceView, group: int) -> BlockIds[int | None]:
        piece = self._pieces.get(seq.order)
        if piece is None:
            return ()
        return range(piece.starts[group], piece.starts[group] + piece.length)

    def fits(self, num_tokens: int) -> bool:
        return self._layout.blocks_for(num_tokens) <= min(self._layout.num_blocks)

    def stats(self) -> KVStats:
        total = sum(self._layout.num_blocks)
        free = sum(runs.num_free for runs in self._free)
        return KVStats(
            total=total,
            free=free,
            used=total - free,
            cached=0,
            tokens_held=self._tokens_held,
            prefix_queries=0,
            prefix_hits=0,
            evictions=0,
        )

    def _reservation(self, seq: SequenceView, num_tokens: int) -> int:
        """Tokens to reserve for a sequence that needs room for `num_tokens` now."""
        most = max(num_tokens, seq.num_prompt_tokens + seq.max_tokens)
        if self._config.reserve is Reserve.fixed:
            reserve = self._config.reserve_tokens * 2**seq.num_preemptions
            return min(most, max(num_tokens, seq.num_tokens) + reserve)
        return most

    def _reserve(self, length: int) -> Piece | None:
        """`length` adjacent blocks of every group, or nothing."""
        starts: list[int] = []
        for free in self._free:
            start = free.take(length)
            if start is None:
                for taken, other in zip(starts, self._free, strict=False):
                    other.give(taken, length)
                return None
            starts.append(start)
        return Piece(starts=tuple(starts), length=length, tokens=0)

    def _extend(self, piece: Piece, needed: int, wanted: int) -> bool:
        """Lengthen `piece` in place to `needed` blocks, better to `wanted`, in every group alike."""
        after = min(
            free.length_at(start + piece.length) for free, start in zip(self._free, piece.starts, strict=True)
        )
        more = min(after, wanted - piece.length)
        if piece.length + more < needed:
            return False
        for free, start in zip(self._free, piece.starts, strict=True):
            free.take_at(start + piece.length, more)
        piece.length += more
        return True

    def check_integrity(self) -> None:
        for group, (free, total) in enumerate(zip(self._free, self._layout.num_blocks, strict=True)):
            pieces = [(piece.starts[group], piece.length) for piece in self._pieces.values()]
            end = 0
            for start, length in sorted(free.runs() + pieces):
                assert start == end, f"group {group}: blocks {end}:{start} leaked or are held twice"
                end = start + length
            assert end == total, f"group {group}: blocks {end}:{total} leaked"
            assert free.num_free == sum(length for _, length in free.runs()), f"group {group}: miscounted"
            touching = {start for start, _ in free.runs()} & {start + n for start, n in free.runs()}
            assert not touching, f"group {group}: free runs are not merged at {touching}"
        for order, piece in self._pieces.items():
            assert piece.tokens <= piece.length * self._layout.block_size, f"sequence {order}: {piece}"
        held = sum(piece.tokens for piece in self._pieces.values()) * len(self._free)
        assert self._tokens_held == held, f"{self._tokens_held} tokens held by count, {held} in truth"
