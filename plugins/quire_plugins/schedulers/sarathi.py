"""Sarathi-Serve's stall-free batching (Agrawal et al., "Taming Throughput-Latency Tradeoff in LLM Inference
with Sarathi-Serve", OSDI 2024, algorithm 3)."""

from __future__ import annotations

from dataclasses import dataclass

from quire.engine.queues import QueueView
from quire.engine.step import StepBuilder
from quire.errors import UserError
from quire.interfaces.scheduler import Scheduler
from quire.scheduling import add_or_preempt


@dataclass
class SarathiConfig:
    """The token budget that bounds every iteration."""

    chunk_tokens: int = 256
    """Tokens of a step, decodes and prefill chunks together: it bounds the time between tokens."""

    def __post_init__(self) -> None:
        if self.chunk_tokens < 1:
            raise UserError(f"scheduler.chunk_tokens={self.chunk_tokens}: must be at least 1")


class Sarathi(Scheduler):
    """Stall-free batching: decodes, then prefill chunks, started ones first, under a token budget."""

    Config = SarathiConfig

    def __init__(self, *, config: SarathiConfig) -> None:
        self._chunk_tokens = config.chunk_tokens

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        budget = min(self._chunk_tokens, step.max_tokens)
        running = tuple(queues.running)
        for seq in running:  # decodes are never stalled
            if seq.remaining == 1 and budget:
                budget -= add_or_preempt(seq, queues, step, 1)
        for seq in running:  # prefills that have begun
            if seq.remaining > 1 and budget:
                budget -= add_or_preempt(seq, queues, step, budget)
        if len(queues.running) < len(running):  # who gave way comes back before anyone later comes in
            return
        for seq in queues.waiting:  # new ones fill what is left
            if not budget:
                break
            grant = step.add(seq, budget)
            if not grant:
                break
            budget -= grant.tokens
