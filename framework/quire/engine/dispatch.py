"""Turns the entries of a sealed step into a plan: slots, block table entries, newcomers.

The runner keeps tokens and block tables by slot; a row carries only what it does not know yet.
"""

from __future__ import annotations

from collections.abc import Iterable

from quire.engine.plan import Newcomer, Row, StepPlan
from quire.engine.sequence import Sequence
from quire.engine.shape import StepShape
from quire.engine.step import Entry
from quire.interfaces.allocator import KVAllocator
from quire.rng import derive_seed


class Dispatch:
    """Knows which slots are free and what the runner has been told of each sequence."""

    def __init__(self, *, allocator: KVAllocator, num_groups: int, max_sequences: int, seed: int) -> None:
        self._allocator = allocator
        self._num_groups = num_groups
        self._seed = seed
        self._free_slots = list(range(max_sequences - 1, -1, -1))
        self.num_plans = 0
        """Made so far: the index of the next step."""

    def release(self, sequence: Sequence) -> None:
        """Take back the slot of a sequence, if it has one."""
        if sequence.slot is not None:
            self._free_slots.append(sequence.slot)
            sequence.slot = None

    def plan(self, entries: Iterable[Entry]) -> StepPlan:
        """The next step, with the copies that it waits for; its sequences are advanced past its tokens."""
        rows = tuple(map(self._row, entries))
        index, self.num_plans = self.num_plans, self.num_plans + 1
        copies = self._allocator.take_copies()
        return StepPlan(index=index, rows=rows, shape=StepShape.of(rows), copies=copies)

    def _row(self, entry: Entry) -> Row:
        sequence = entry.sequence
        newcomer = self._settle(sequence) if sequence.slot is None else None
        assert sequence.slot is not None
        first_block = tuple(sequence.blocks_sent)
        new_blocks: list[tuple[int, ...]] = []
        for group, known in enumerate(first_block):
            table = self._allocator.table(sequence.view, group)
            # Where a window has passed there is no block; whatever stands there is never read.
            new_blocks.append(tuple([block or 0 for block in table[known:]]) if len(table) > known else ())
            sequence.blocks_sent[group] = len(table)
        end = entry.start + entry.count
        samples = end == sequence.num_tokens
        sequence.num_computed = end
        sequence.num_pending += samples
        sequence.record.num_computed_tokens += entry.count
        return Row(
            sequence_id=sequence.id,
            slot=sequence.slot,
            start=entry.start,
            count=entry.count,
            samples=samples,
            first_block=first_block,
            new_blocks=tuple(new_blocks),
            newcomer=newcomer,
        )

    def _settle(self, sequence: Sequence) -> Newcomer:
        assert sequence.num_pending == 0, f"{sequence.id} takes a slot with a token in flight"
        sequence.slot = self._free_slots.pop()
        sequence.blocks_sent = [0] * self._num_groups
        request = sequence.request
        seed = request.sampling.seed
        return Newcomer(
            token_ids=tuple(sequence.tokens),
            num_prompt=sequence.num_prompt_tokens,
            params=request.sampling,
            seed=derive_seed(derive_seed(self._seed, request.id) if seed is None else seed, sequence.index),
        )
