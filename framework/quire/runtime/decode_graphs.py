"""Decoding steps as CUDA graphs: one launch in place of some hundreds.

A graph repeats what was launched while it was captured, on the same memory. One therefore serves a number of
sequences and a width of block tables, a rung; a step takes the smallest rung that holds it, and fills it up
with sequences that have no tokens. Graphs are captured when a step first needs one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch

from quire.engine.plan import Row
from quire.runtime.batch import Batch
from quire.runtime.inputs import StepArrays, batch_of
from quire.runtime.staging import Staging

_NARROWEST = 16
"""Blocks of the narrowest tables: fewer would save bytes that do not count."""


class Rung(NamedTuple):
    """What one graph holds."""

    sequences: int
    table_width: int


class Ladder:
    """The rungs up to a number of sequences and a width of tables.

    Sequences go in steps of a quarter of the power of two below, so that little is computed for nothing;
    widths, which cost only bytes to copy, double.
    """

    def __init__(self, *, max_sequences: int, max_width: int) -> None:
        self.sequences = _sequence_counts(max_sequences)
        widths = [_NARROWEST]
        while widths[-1] < max_width:
            widths.append(2 * widths[-1])
        self.widths = (*widths[:-1], max_width)

    def rung(self, sequences: int, table_width: int) -> Rung:
        """The smallest that holds so much."""
        return Rung(
            self.sequences[bisect_left(self.sequences, sequences)],
            self.widths[bisect_left(self.widths, table_width)],
        )


def _sequence_counts(most: int) -> tuple[int, ...]:
    """1, 2, 4, 8, then multiples of 8 to 64, of 16 to 128, of 32 to 256 and so on; the last is `most`."""
    counts = [1, 2, 4, 8]
    while counts[-1] < most:
        last = counts[-1]
        counts.append(last + max(8, 1 << (last.bit_length() - 3)))
    return (*(count for count in counts if count < most), most)


class Capture(Protocol):
    """Records what a function launches."""

    def __call__(self, compute: Callable[[], torch.Tensor]) -> tuple[Callable[[], object], torch.Tensor]:
        """(a function that launches the same again, the tensor that each launch fills)."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Graph:
    """One captured rung."""

    staging: Staging
    inputs: torch.Tensor
    """Bytes on the device, laid out by `staging`."""
    sampling_slots_S: torch.Tensor
    replay: Callable[[], object]
    logits_SV: torch.Tensor


class DecodeGraphs:
    """The logits of decoding steps by replay."""

    def __init__(
        self,
        *,
        capture: Capture,
        compute: Callable[[Batch], torch.Tensor],
        ladder: Ladder,
        max_tokens: int,
        block_size: int,
        device: torch.device,
    ) -> None:
        """`compute` makes logits of a batch, by launches that depend on nothing but its shapes and, of its
        host copies, on the longest sequence, which may be longer than any that comes.
        """
        self._capture = capture
        self._compute = compute
        self._ladder = ladder
        self._max_tokens = max_tokens
        self._block_size = block_size
        self._device = device
        self._graphs: dict[Rung, _Graph] = {}

    @staticmethod
    def serves(rows: tuple[Row, ...]) -> bool:
        """Whether a step of these rows decodes: each computes one token and samples the next."""
        return all(row.count == 1 and row.samples for row in rows)

    def logits(self, arrays: StepArrays) -> tuple[torch.Tensor, torch.Tensor]:
        """(logits [R, V], slots of the rows that sample [R]) of a step that `serves` approves of.

        Both are overwritten by the next call.
        """
        number = len(arrays.seq_lens_S)
        rung = self._ladder.rung(number, arrays.table_width)
        padded = arrays.padded(sequences=rung.sequences, table_width=rung.table_width)
        graph = self._graphs.get(rung)
        if graph is None:
            graph = self._graphs[rung] = self._captured(rung, padded)
        packed = graph.staging.pack(padded.all(), pinned=self._device.type == "cuda")
        graph.inputs.copy_(packed, non_blocking=True)
        graph.replay()
        return graph.logits_SV[:number], graph.sampling_slots_S[:number]

    def _captured(self, rung: Rung, arrays: StepArrays) -> _Graph:
        """Captured with the step's own inputs: what its runs store is what belongs there."""
        staging = Staging(arrays.all())
        inputs = staging.pack(arrays.all(), pinned=False).to(self._device)
        longest = min(rung.table_width * self._block_size, self._max_tokens)
        batch, sampling_slots_S = batch_of(
            staging.cut(inputs),
            host_query_starts=np.arange(rung.sequences + 1, dtype=np.int32),
            host_seq_lens=np.full(rung.sequences, longest, dtype=np.int32),
            block_size=self._block_size,
        )
        replay, logits_SV = self._capture(lambda: self._compute(batch))
        return _Graph(
            staging=staging,
            inputs=inputs,
            sampling_slots_S=sampling_slots_S,
            replay=replay,
            logits_SV=logits_SV,
        )
