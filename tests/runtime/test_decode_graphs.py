"""Which rung a decoding step takes, how it is filled up, and when a graph is captured and replayed: without a
GPU, by a capture that notes what was asked of it and repeats the computation itself.
"""

import numpy as np
import pytest
import torch
from deferred import Capture

from quire.engine.plan import Newcomer, Row, StepPlan
from quire.engine.request import SamplingParams
from quire.engine.shape import StepShape
from quire.runtime.decode_graphs import DecodeGraphs, Ladder, Rung
from quire.runtime.inputs import step_arrays
from quire.runtime.slots import Slots

BLOCK = 16
CPU = torch.device("cpu")


def rows(*lengths, count=1, samples=True):
    """A sequence a slot, of so many tokens with this step's; each with blocks of its own."""
    made = []
    for slot, length in enumerate(lengths):
        blocks = tuple(100 * slot + i for i in range(-(-length // BLOCK)))
        newcomer = Newcomer(
            token_ids=tuple(range(length)), num_prompt=length, params=SamplingParams(), seed=slot
        )
        made.append(
            Row(
                sequence_id=f"s{slot}",
                slot=slot,
                start=length - count,
                count=count,
                samples=samples,
                first_block=(0, 0),
                new_blocks=(blocks, blocks),
                newcomer=newcomer,
            )
        )
    return tuple(made)


def arrays_of(step):
    slots = Slots(max_sequences=64, max_tokens=2048, table_widths=(128, 128), processors=())
    for row in step:
        slots.apply(row)
    plan = StepPlan(index=0, rows=step, shape=StepShape.of(step))
    return step_arrays(plan, slots, np.arange(len(step)), block_size=BLOCK)


@pytest.mark.parametrize("most", [1, 2, 5, 8, 64, 100, 256, 1000])
def test_every_number_of_sequences_has_a_rung_that_wastes_little(most):
    ladder = Ladder(max_sequences=most, max_width=128)
    for sequences in range(1, most + 1):
        rung = ladder.rung(sequences, 1)
        assert sequences <= rung.sequences <= most
        assert rung.sequences - sequences < max(8, sequences / 3)
    assert len(ladder.sequences) <= 30


@pytest.mark.parametrize("most", [1, 16, 17, 100, 8192])
def test_tables_at_most_double(most):
    ladder = Ladder(max_sequences=4, max_width=most)
    for width in range(1, most + 1):
        rung = ladder.rung(1, width)
        assert width <= rung.table_width <= most
        assert rung.table_width < max(17, 2 * width)


def test_what_fills_a_step_up_has_no_tokens():
    step = rows(20, 33, 1)
    arrays = arrays_of(step).padded(sequences=5, table_width=16)
    assert arrays.query_starts_S1.tolist() == [0, 1, 2, 3, 3, 3]
    assert arrays.seq_lens_S.tolist() == [20, 33, 1, 0, 0]
    assert arrays.positions_T.tolist() == [19, 32, 0, 0, 0]
    assert arrays.token_ids_T.tolist() == [19, 32, 0, 0, 0]
    assert arrays.logit_rows_R.tolist() == [0, 1, 2, 3, 4]
    for slots_T, tables_SM in zip(arrays.slots_GT, arrays.tables_GSM, strict=True):
        assert slots_T.tolist() == [1 * BLOCK + 3, 102 * BLOCK, 200 * BLOCK, -1, -1]
        assert tables_SM.shape == (5, 16)
        assert tables_SM[1, :3].tolist() == [100, 101, 102]
    for array, plain in zip(arrays.all(), arrays_of(step).all(), strict=True):
        assert array.dtype == plain.dtype
        assert array.flags.c_contiguous


def test_one_capture_a_rung_and_a_replay_a_step():
    seen = []

    def compute(batch):
        seen.append((batch.num_sequences, batch.host_seq_lens_S.max().item()))
        return (batch.seq_lens_S[:, None] * 1000 + batch.token_ids_T[:, None]).float()

    capture = Capture()
    graphs = DecodeGraphs(
        capture=capture,
        compute=compute,
        ladder=Ladder(max_sequences=8, max_width=40),
        max_tokens=600,
        block_size=BLOCK,
        device=CPU,
    )
    for lengths in ((20, 33, 1), (21, 34, 2), (7, 8, 9, 10), (300, 301, 302), (639, 5, 6)):
        logits_RV, slots_R = graphs.logits(arrays_of(rows(*lengths)))
        assert logits_RV[:, 0].tolist() == [1000 * length + length - 1 for length in lengths]
        assert slots_R.tolist() == list(range(len(lengths)))
    assert capture.replayed == 5
    assert capture.captured == 3
    # The longest sequence that a rung's tables hold, and no longer than a sequence may be.
    assert sorted(set(seen)) == [(4, 256), (4, 512), (4, 600)]


def test_only_steps_that_decode_are_served():
    assert DecodeGraphs.serves(rows(5, 9))
    assert not DecodeGraphs.serves(rows(5, 9, count=2))
    assert not DecodeGraphs.serves(rows(5, samples=False))
    assert Rung(4, 16) == Ladder(max_sequences=8, max_width=40).rung(3, 2)
