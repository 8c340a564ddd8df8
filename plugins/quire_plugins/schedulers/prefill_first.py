"""vLLM's first policy (Kwon et al., "Efficient Memory Management for Large Language Model Serving with
PagedAttention", SOSP 2023, section 4.5): whole prompts as soon as they fit, decodes when no prompt waits."""

from __future__ import annotations

from dataclasses import dataclass

from quire.engine.queues import QueueView
from quire.engine.step import StepBuilder
from quire.errors import UserError
from quire.interfaces.scheduler import Scheduler
from quire.scheduling import add_or_preempt


@dataclass
class PrefillFirstConfig:
    """How much memory admission leaves for those who run."""

    watermark: float = 0.01
    """Another prompt is admitted only if at least this fraction of the KV blocks is free beside it, in
    [0, 1), whatever it shares with others; the first one always is."""

    def __post_init__(self) -> None:
        if not 0 <= self.watermark < 1:
            raise UserError(f"scheduler.watermark={self.watermark}: must be in [0, 1)")


class PrefillFirst(Scheduler):
    """Eager prefill: a step computes whole prompts if any can start, and otherwise decodes."""

    Config = PrefillFirstConfig

    def __init__(self, *, config: PrefillFirstConfig) -> None:
        self._watermark = config.watermark

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        for seq in queues.running:  # a prompt longer than a step's budget goes on in the next
            if seq.remaining > 1:
                step.add(seq)
        for seq in queues.waiting:
            fits = seq.num_tokens - step.cached_tokens(seq) <= step.tokens_left
            if len(step) and not fits:  # whole prompts only, unless one is longer than any step
                break
            left = 1 - step.kv.usage - step.kv_room(seq.num_tokens) / step.kv_tokens
            if (len(queues.running) or len(step)) and left < self._watermark:
                break
            if not step.add(seq):
                break
        if len(step):
            return
        for seq in queues.running:
            add_or_preempt(seq, queues, step)
