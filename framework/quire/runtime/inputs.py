"""From a plan to the tensors of a step.

rows of the plan:      |  row 0, count 3  |r1|    row 2, count 4     |
token t of the step:    0     1     2      3  4     5     6     7
row_of_token:           0     0     0      1  2     2     2     2
positions:              start .. start + count - 1 of each row
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from quire.engine.plan import StepPlan
from quire.runtime.batch import Batch
from quire.runtime.slots import Slots
from quire.runtime.staging import to_device

if TYPE_CHECKING:
    import torch


def build_batch(
    plan: StepPlan, slots: Slots, logit_rows: np.ndarray, *, block_size: int, device: torch.device
) -> Batch:
    """The batch of `plan`; `slots` must have applied its rows. `logit_rows` are tokens of the step."""
    import torch

    num_rows = len(plan.rows)
    row_slots = np.fromiter((row.slot for row in plan.rows), np.int64, num_rows)
    starts = np.fromiter((row.start for row in plan.rows), np.int64, num_rows)
    counts = np.fromiter((row.count for row in plan.rows), np.int64, num_rows)
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
    token_ids = slots.tokens[slot_of_token, positions].astype(np.int64)
    block_of_token, offsets = np.divmod(positions, block_size)
    width = -(-int(seq_lens.max()) // block_size)
    tables = [np.ascontiguousarray(table[row_slots, :width]) for table in slots.tables]
    cache_slots = [
        table[slot_of_token, block_of_token].astype(np.int64) * block_size + offsets for table in slots.tables
    ]
    fixed = [token_ids, positions, query_starts, seq_lens, logit_rows]
    tensors = to_device(fixed + tables + cache_slots, device)
    groups = len(tables)
    return Batch(
        token_ids_T=tensors[0],
        positions_T=tensors[1],
        query_starts_S1=tensors[2],
        seq_lens_S=tensors[3],
        logit_rows_R=tensors[4],
        tables_GSM=tuple(tensors[5 : 5 + groups]),
        slots_GT=tuple(tensors[5 + groups :]),
        host_query_starts_S1=torch.from_numpy(query_starts),
        host_seq_lens_S=torch.from_numpy(seq_lens),
        block_size=block_size,
    )
