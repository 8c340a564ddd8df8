"""Steps made by hand, as an engine makes them, for tests of what computes them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from quire.engine.plan import Newcomer, Row, StepPlan
from quire.engine.request import SamplingParams
from quire.engine.shape import StepShape
from quire.interfaces.allocator import KVCopy, KVGroup, KVLayout

BLOCK = 16
"""Tokens of a block."""
_SLOT_BLOCKS = 4


def make_plan(index: int, *rows: Row, copies: Sequence[KVCopy] = ()) -> StepPlan:
    """The step of that number."""
    return StepPlan(index=index, rows=rows, shape=StepShape.of(rows), copies=tuple(copies))


class PlanMaker:
    """Makes rows of greedy sequences: one in each of three slots, with four blocks of every group."""

    max_sequences = 3
    num_blocks = max_sequences * _SLOT_BLOCKS

    def __init__(self, groups: tuple[KVGroup, ...]) -> None:
        self._groups = groups

    def layout(self, *, max_tokens: int, num_blocks: int = num_blocks) -> KVLayout:
        """Memory that has room for them."""
        return KVLayout(
            groups=self._groups,
            block_size=BLOCK,
            num_blocks=(num_blocks,) * len(self._groups),
            max_tokens=max_tokens,
        )

    def table(self, slot: int) -> tuple[int, ...]:
        """The blocks of a slot's sequence, the last of memory first."""
        last = self.num_blocks - 1 - _SLOT_BLOCKS * slot
        return tuple(range(last, last - _SLOT_BLOCKS, -1))

    def prompt(self, slot: int, tokens: tuple[int, ...], *, start: int = 0, count: int | None = None) -> Row:
        """A newcomer that computes `count` tokens of its prompt (None: all that remain) from `start` on."""
        count = len(tokens) - start if count is None else count
        params = SamplingParams(temperature=0.0, ignore_eos=True)
        return Row(
            sequence_id=f"slot {slot}",
            slot=slot,
            start=start,
            count=count,
            samples=start + count == len(tokens),
            first_block=(0,) * len(self._groups),
            new_blocks=(self.table(slot),) * len(self._groups),
            newcomer=Newcomer(token_ids=tokens, num_prompt=len(tokens), params=params, seed=slot),
        )

    def next(self, row: Row, *, count: int = 1) -> Row:
        """The `count` tokens that follow what `row` computes, with a token sampled at their end."""
        return msgspec.structs.replace(
            row,
            start=row.start + row.count,
            count=count,
            samples=True,
            first_block=(_SLOT_BLOCKS,) * len(self._groups),
            new_blocks=((),) * len(self._groups),
            newcomer=None,
        )

    def plans(self, prompts: Sequence[tuple[int, ...]], *, steps: int) -> list[StepPlan]:
        """All prompts in one step, then a token of each in every step that follows."""
        rows = [self.prompt(slot, tokens) for slot, tokens in enumerate(prompts)]
        plans = [make_plan(0, *rows)]
        for index in range(1, steps):
            rows = [self.next(row) for row in rows]
            plans.append(make_plan(index, *rows))
        return plans
