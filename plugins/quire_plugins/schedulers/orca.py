"""Orca (Yu et al., "Orca: A Distributed Serving System for Transformer-Based Generative Models", OSDI
2022): iteration-level scheduling (section 3.1) in order of arrival, with memory reserved for the longest a
request may become (section 4.2, algorithm 1: `n_rsrv + req.max_tokens <= n_slots`).

The reservation is a count that this policy keeps, so that it needs no particular allocator: nobody is
admitted whose declared length does not fit beside those of the others, and so nobody is ever preempted. The
allocator decides what lies where: `allocator=contiguous` really sets the reserved room aside, as Orca does,
and may refuse for want of one adjacent piece; `allocator=paged` uses only the part that is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from quire.engine.queues import QueueView
from quire.engine.sequence import SequenceView
from quire.engine.step import StepBuilder
from quire.errors import UserError
from quire.interfaces import Scheduler
from quire.scheduling import add_or_preempt


@dataclass
class OrcaConfig:
    """How large a batch may be."""

    batch_size: int | None = None
    """Sequences in a batch (Orca's max_bs); null takes as many as the engine runs at once."""

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"scheduler.batch_size={self.batch_size}: must be at least 1, or null")


class Orca(Scheduler):
    """Iteration-level batching; a request enters when all it may become has room."""

    Config = OrcaConfig

    def __init__(self, *, config: OrcaConfig) -> None:
        self._batch_size = config.batch_size
        self._reserved: dict[int, int] = {}
        """Tokens of room of each sequence that was admitted and has not ended."""

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        running = tuple(queues.running)
        for seq in running:
            self._reserved.setdefault(seq.order, _most(seq, step))  # samples forked from one come unasked
            add_or_preempt(seq, queues, step)  # only they can make memory lack
        gave_way = [seq for seq in running if seq not in queues.running]
        for seq in gave_way:
            del self._reserved[seq.order]
        if gave_way:
            return
        reserved = sum(self._reserved.values())
        for seq in queues.waiting:
            reserved += _most(seq, step)
            if self._reserved and (reserved > step.kv_tokens or len(self._reserved) == self._batch_size):
                break
            if not step.add(seq):
                break
            self._reserved[seq.order] = _most(seq, step)

    def on_finish(self, seq: SequenceView) -> None:
        self._reserved.pop(seq.order, None)


def _most(seq: SequenceView, step: StepBuilder) -> int:
    """Tokens of room for all that a sequence may become."""
    return step.kv_room(seq.num_prompt_tokens + seq.max_tokens)
