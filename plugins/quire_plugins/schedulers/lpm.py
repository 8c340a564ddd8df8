"""Longest prefix match first (Zheng et al., "SGLang: Efficient Execution of Structured Language Model
Programs", NeurIPS 2024, section 3, algorithm 1: cache-aware scheduling)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from quire.config.checks import check_not_negative
from quire.engine.queues import QueueView
from quire.engine.sequence import SequenceView
from quire.engine.step import StepBuilder
from quire.errors import UserError
from quire.interfaces import Scheduler
from quire.scheduling import keep_running


@dataclass
class LpmConfig:
    """How many are compared, and how long one may be overtaken."""

    window: int = 128
    """The earliest of those that wait, so many of them, are compared by what the prefix cache holds of them;
    it bounds the cost of a step."""
    aging: float = 0.0
    """Cached tokens that each second since the arrival counts as; 0: none."""

    def __post_init__(self) -> None:
        if self.window < 1:
            raise UserError(f"scheduler.window={self.window}: must be at least 1")
        check_not_negative("scheduler", self, "aging", what="number of tokens a second")


class Lpm(Scheduler):
    """Of those that wait, the one starts first of which the prefix cache holds most; then by arrival."""

    Config = LpmConfig

    def __init__(self, *, config: LpmConfig) -> None:
        self._config = config

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        def matched(seq: SequenceView) -> tuple[float, int]:
            return self._config.aging * seq.arrival_time - step.cached_tokens(seq), seq.order

        if not keep_running(queues, step) or not step.sequences_left or not step.tokens_left:
            return
        for seq in sorted(islice(queues.waiting, self._config.window), key=matched):
            if not step.add(seq):
                break
