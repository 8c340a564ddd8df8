"""Static batching: a batch runs to completion before the next one starts (the baseline of Orca: Yu et al.,
2022, section 2; FasterTransformer served this way)."""

from __future__ import annotations

from dataclasses import dataclass

from quire.engine.queues import QueueView
from quire.engine.sequence import SequenceView
from quire.engine.step import Lack, StepBuilder
from quire.errors import UserError
from quire.interfaces.scheduler import Scheduler
from quire.scheduling import add_or_preempt


@dataclass
class StaticConfig:
    """How large a batch may be."""

    batch_size: int | None = None
    """Sequences in a batch; null takes as many as the engine runs at once."""

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"scheduler.batch_size={self.batch_size}: must be at least 1, or null")


class Static(Scheduler):
    """A batch runs to completion: nobody joins it, and nothing starts before its last sequence ended."""

    Config = StaticConfig

    def __init__(self, *, config: StaticConfig) -> None:
        self._batch_size = config.batch_size
        self._batch: set[str] = set()
        """Members of the batch that have not ended: preempted ones too, and samples forked from members."""
        self._open = True
        """Whether the batch is still being formed: its prompts may take several steps."""

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        for seq in queues.running:
            self._batch.add(seq.id)
            add_or_preempt(seq, queues, step)
        self._open |= not self._batch
        for seq in queues.waiting:
            member = seq.id in self._batch  # one that was preempted comes back
            if not member and not self._open:
                continue
            if not member and self._is_full():
                self._open = False
                continue
            grant = step.add(seq)
            if not grant:
                self._open &= grant.lack is Lack.TOKENS
                break
            self._batch.add(seq.id)
        else:
            self._open = False

    def _is_full(self) -> bool:
        return self._batch_size is not None and len(self._batch) >= self._batch_size

    def on_finish(self, seq: SequenceView) -> None:
        self._batch.discard(seq.id)
