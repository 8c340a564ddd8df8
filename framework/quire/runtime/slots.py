"""The persistent batch: what the runner keeps of each running sequence, one row of plain arrays a slot.

A step's inputs are then a few gathers over all sequences at once; no Python runs per token, and little per
sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quire.engine.plan import Row
from quire.engine.request import SamplingParams
from quire.interfaces.sampler import LogitsProcessor


@dataclass(slots=True, kw_only=True)
class SlotState:
    """The parts of a slot that are no arrays."""

    num_prompt: int
    params: SamplingParams
    seed: int
    processors: tuple[LogitsProcessor, ...]
    """Those that its rows want, in the order of application."""


class Slots:
    """Tokens, block tables and sampling state by slot. Only the runner writes it.

    The arrays span the longest sequence; pages of memory that no sequence reached are never touched.
    """

    def __init__(
        self,
        *,
        max_sequences: int,
        max_tokens: int,
        table_widths: tuple[int, ...],
        processors: tuple[LogitsProcessor, ...],
    ) -> None:
        # Zeros: after a step that failed, a row of the next one may read a token that was never written, and
        # must not break that step too with an id outside the vocabulary.
        self.tokens = np.zeros((max_sequences, max_tokens + 1), dtype=np.int32)
        self.tables = tuple(np.zeros((max_sequences, width), dtype=np.int32) for width in table_widths)
        self._states: list[SlotState | None] = [None] * max_sequences
        self._processors = processors

    def apply(self, row: Row) -> None:
        """Take in what `row` brings that the runner did not know."""
        newcomer = row.newcomer
        if newcomer is not None:
            self.tokens[row.slot, : len(newcomer.token_ids)] = newcomer.token_ids
            self._states[row.slot] = SlotState(
                num_prompt=newcomer.num_prompt,
                params=newcomer.params,
                seed=newcomer.seed,
                processors=tuple(each for each in self._processors if each.wants(newcomer.params)),
            )
        for table, first, blocks in zip(self.tables, row.first_block, row.new_blocks, strict=True):
            if blocks:
                table[row.slot, first : first + len(blocks)] = blocks

    def state(self, slot: int) -> SlotState:
        """The sampling state of an occupied slot."""
        state = self._states[slot]
        assert state is not None, f"slot {slot} is empty"
        return state

    def holds(self, slot: int, state: SlotState) -> bool:
        """Whether the slot is still that sequence's."""
        return self._states[slot] is state

    def expect(self, slot: int, position: int) -> None:
        """The token at `position` has been sampled, on the device, and is not known here yet."""
        self.tokens[slot, position] = -1 - slot

    def history(self, slot: int, length: int) -> np.ndarray:
        """The first `length` tokens of the sequence in `slot`; a view, int32."""
        return self.tokens[slot, :length]
