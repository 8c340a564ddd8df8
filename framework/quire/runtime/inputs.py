"""From a plan to the inputs of a step.

rows of the plan:      |  row 0, count 3  |r1|    row 2, count 4     |
token t of the step:    0     1     2      3  4     5     6     7
row_of_token:           0     0     0      1  2     2     2     2
positions:              start .. start + count - 1 of each row
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quire.engine.plan import StepPlan
from quire.runtime.batch import Batch
from quire.runtime.slots import Slots

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StepArrays:
    """What of a step goes to the device: the arrays of a Batch, and the slots of the R rows that sample.

    In `token_ids_T`, -1 - s stands for the token that was last sampled for slot s.
    """

    token_ids_T: np.ndarray
    positions_T: np.ndarray
    query_starts_S1: np.ndarray
    seq_lens_S: np.ndarray
    logit_rows_R: np.ndarray
    sampling_slots_R: np.ndarray
    tables_GSM: tuple[np.ndarray, ...]
    slots_GT: tuple[np.ndarray, ...]

    @property
    def table_width(self) -> int:
        return self.tables_GSM[0].shape[1]

    def all(self) -> list[np.ndarray]:
        """In the order in which `batch_of` takes them back as tensors."""
        fixed = [
            self.token_ids_T,
            self.positions_T,
            self.query_starts_S1,
            self.seq_lens_S,
            self.logit_rows_R,
            self.sampling_slots_R,
        ]
        return [*fixed, *self.tables_GSM, *self.slots_GT]

    def padded(self, *, sequences: int, table_width: int) -> StepArrays:
        """A decoding step, one token a sequence, as one of more sequences and wider tables.

        Those beyond its own have no tokens: their queries end where they begin, nothing of them is stored.
        Each still has a row among the tokens, and one of logits.
        """
        more = sequences - len(self.seq_lens_S)

        def pad(array: np.ndarray, value: int) -> np.ndarray:
            return np.pad(array, (0, more), constant_values=value)

        return StepArrays(
            token_ids_T=pad(self.token_ids_T, 0),
            positions_T=pad(self.positions_T, 0),
            query_starts_S1=pad(self.query_starts_S1, int(self.query_starts_S1[-1])),
            seq_lens_S=pad(self.seq_lens_S, 0),
            logit_rows_R=np.arange(sequences, dtype=np.int64),
            sampling_slots_R=pad(self.sampling_slots_R, 0),
            tables_GSM=tuple(
                np.pad(table, ((0, more), (0, table_width - self.table_width))) for table in self.tables_GSM
            ),
            slots_GT=tuple(pad(slots, -1) for slots in self.slots_GT),
        )


def step_arrays(plan: StepPlan, slots: Slots, logit_rows: np.ndarray, *, block_size: int) -> StepArrays:
    """The arrays of `plan`; `slots` must have applied its rows. `logit_rows` are tokens of the step."""
    num_rows = len(plan.rows)
    row_slots = np.fromiter((row.slot for row in plan.rows), np.int64, num_rows)
    starts = np.fromiter((row.start for row in plan.rows), np.int64, num_rows)
    counts = np.fromiter((row.count for row in plan.rows), np.int64, num_rows)
    samples = np.fromiter((row.samples for row in plan.rows), np.bool_, num_rows)
    query_starts = np.zeros(num_rows + 1, dtype=np.int32)
    np.cumsum(counts, out=query_starts[1:])
    seq_lens = (starts + counts).astype(np.int32)
    num_tokens = int(query_starts[-1])
    if num_tokens == num_rows:  # one token each: nothing to spread
        slot_of_token, positions = row_slots, starts
    else:
        row_of_token = np.repeat(np.arange(num_rows), counts)
        slot_of_token = row_slots[row_of_token]
        positions = starts[row_of_token] + np.arange(num_tokens) - query_starts[row_of_token]
    block_of_token, offsets = np.divmod(positions, block_size)
    width = -(-int(seq_lens.max()) // block_size)
    return StepArrays(
        token_ids_T=slots.tokens[slot_of_token, positions].astype(np.int64),
        positions_T=positions,
        query_starts_S1=query_starts,
        seq_lens_S=seq_lens,
        logit_rows_R=logit_rows,
        sampling_slots_R=row_slots[samples],
        tables_GSM=tuple(np.ascontiguousarray(table[row_slots, :width]) for table in slots.tables),
        slots_GT=tuple(
            table[slot_of_token, block_of_token].astype(np.int64) * block_size + offsets
            for table in slots.tables
        ),
    )


def batch_of(
    tensors: Sequence[torch.Tensor],
    *,
    host_query_starts: np.ndarray,
    host_seq_lens: np.ndarray,
    block_size: int,
) -> tuple[Batch, torch.Tensor]:
    """The batch, and the slots of the rows that sample, of what `StepArrays.all` became on a device."""
    import torch

    groups = (len(tensors) - 6) // 2
    batch = Batch(
        token_ids_T=tensors[0],
        positions_T=tensors[1],
        query_starts_S1=tensors[2],
        seq_lens_S=tensors[3],
        logit_rows_R=tensors[4],
        tables_GSM=tuple(tensors[6 : 6 + groups]),
        slots_GT=tuple(tensors[6 + groups :]),
        host_query_starts_S1=torch.from_numpy(host_query_starts),
        host_seq_lens_S=torch.from_numpy(host_seq_lens),
        block_size=block_size,
    )
    return batch, tensors[5]
