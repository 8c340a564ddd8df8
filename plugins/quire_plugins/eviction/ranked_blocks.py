"""Blocks in an order that their policy gives them."""

from __future__ import annotations

import heapq
from typing import Any

from quire.interfaces import CachedBlock


class RankedBlocks:
    """Blocks of one group by rank, the smallest first. `put` and `discard` take O(log n), amortised.

    A heap of which outdated entries are thrown away when they come to the top, or when they are the most.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[Any, int]] = []
        self._ranks: dict[int, Any] = {}
        self._blocks: dict[int, CachedBlock] = {}

    def __len__(self) -> int:
        return len(self._blocks)

    def __contains__(self, block: CachedBlock) -> bool:
        return block.block in self._blocks

    def put(self, block: CachedBlock, rank: Any) -> None:
        """Let `block` in, or give it another rank. Ranks must be comparable."""
        self._blocks[block.block] = block
        self._ranks[block.block] = rank
        heapq.heappush(self._heap, (rank, block.block))
        if len(self._heap) > 2 * len(self._blocks) + 64:
            self._heap = [(rank, number) for number, rank in self._ranks.items()]
            heapq.heapify(self._heap)

    def discard(self, block: CachedBlock) -> bool:
        """Forget `block`; whether it was here."""
        self._ranks.pop(block.block, None)
        return self._blocks.pop(block.block, None) is not None

    def rank(self, block: CachedBlock) -> Any:
        """The rank of `block`, which is here."""
        return self._ranks[block.block]

    def first(self) -> CachedBlock:
        """The block of the smallest rank; there is one."""
        while True:
            rank, number = self._heap[0]
            if number in self._blocks and self._ranks[number] == rank:
                return self._blocks[number]
            heapq.heappop(self._heap)
