"""Moves that many schedulers share."""

from __future__ import annotations

from quire.engine.queues import QueueView
from quire.engine.sequence import SequenceView
from quire.engine.step import StepBuilder


def add_or_preempt_latest(
    seq: SequenceView, queues: QueueView, step: StepBuilder, tokens: int | None = None
) -> int:
    """Let a running `seq` compute up to `tokens` tokens (None: all that remain) and return how many it got.

    Where no block is left, the latest to arrive gives way, at last `seq` itself (Kwon et al., PagedAttention,
    SOSP 2023, section 4.5).
    """
    while seq in queues.running:
        grant = step.add(seq, tokens)
        if not grant.lacks_memory:
            return grant.tokens
        step.preempt(queues.running.latest())
    return 0
