"""FastServe's skip-join multi-level feedback queue (Wu et al., "Fast Distributed Inference Serving for Large
Language Models", 2023, section 4; NSDI 2026).

Level i has a quantum of `quantum` x `ratio`^i seconds. A request joins the highest level whose quantum
covers its first iteration, which computes the prompt, and skips those above, where it could not produce
anything. One that has used up its quantum goes down a level; one that has had nothing for `promote_after`
seconds goes up again. The paper's proactive swapping is a matter of what a preemption does, not of this
policy.
"""

from __future__ import annotations

from dataclasses import dataclass

from quire.config.checks import check_above_zero, check_not_negative
from quire.engine.queues import QueueView
from quire.engine.records import StepRecord
from quire.engine.sequence import SequenceView
from quire.engine.step import StepBuilder
from quire.errors import UserError
from quire.interfaces import Scheduler
from quire.scheduling import RankedQueue, serve_by_rank
from quire_plugins.schedulers.step_time import StepTime


@dataclass
class MlfqConfig:
    """The levels and when a sequence changes between them."""

    levels: int = 6
    """How many; the last has no quantum."""
    quantum: float = 0.05
    """Seconds in steps that a sequence may take part in on the first level."""
    ratio: float = 2.0
    """By how much the quantum of each level exceeds that of the one above."""
    promote_after: float = 10.0
    """Seconds without a step after which a sequence goes up again (the paper's starvation limit); 0:
    never."""

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise UserError(f"scheduler.levels={self.levels}: must be at least 1")
        check_above_zero("scheduler", self, "quantum", what="number of seconds")
        if not 1 <= self.ratio < float("inf"):
            raise UserError(f"scheduler.ratio={self.ratio}: must be a finite number >= 1")
        check_not_negative("scheduler", self, "promote_after", what="number of seconds")


@dataclass(slots=True)
class Turn:
    """What a sequence has had on its level."""

    level: int
    output: int
    """Output tokens when it came there."""
    last_step: float
    """When it last took part in a step, or came."""
    seconds: float = 0.0
    """In steps that it took part in."""


class Mlfq(Scheduler):
    """Preemptive, by level, and on each level in order of joining it; knows no lengths beforehand."""

    Config = MlfqConfig

    def __init__(self, *, config: MlfqConfig) -> None:
        self._config = config
        self._step_time = StepTime()
        self._living = RankedQueue()
        """By (level, when it was joined)."""
        self._idle = RankedQueue()
        """By when they last took part in a step, as of when they came to wait."""
        self._turns: dict[int, Turn] = {}
        self._now = 0.0
        self._served: list[SequenceView] = []
        """Who took part in the step that was scheduled last."""

    def on_arrival(self, seq: SequenceView) -> None:
        self._join(seq, seq.arrival_time)
        self._idle.put(seq, seq.arrival_time)

    def on_finish(self, seq: SequenceView) -> None:
        self._living.discard(seq)
        self._idle.discard(seq)
        del self._turns[seq.order]

    def on_step(self, record: StepRecord) -> None:
        self._step_time.observe(record)

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        elapsed, self._now = queues.now - self._now, queues.now
        running = tuple(queues.running)
        for seq in self._served:
            if seq.order in self._turns:
                self._charge(seq, elapsed)
        if self._config.promote_after:
            self._promote(running)
        serve_by_rank(queues, step, self._living.waiting(), rank=self._living.rank)
        self._served = list(step)
        for seq in running:
            if seq not in queues.running:
                self._idle.put(seq, self._turns[seq.order].last_step)

    def _join(self, seq: SequenceView, now: float) -> None:
        """The highest level on which it can produce a token."""
        seconds = self._step_time.seconds(seq.remaining)
        level = 0
        while level < self._config.levels - 1 and self._quantum(level) < seconds:
            level += 1
        self._enter(seq, level, now)

    def _enter(self, seq: SequenceView, level: int, now: float) -> None:
        self._turns[seq.order] = Turn(level, seq.num_output_tokens, now)
        self._living.put(seq, (level, now))

    def _charge(self, seq: SequenceView, seconds: float) -> None:
        """It took part in a step of so many seconds, and may have used up its quantum. It keeps its level
        until it has produced a token there: a turn always brings something, whatever had to be computed
        again.
        """
        turn = self._turns[seq.order]
        turn.seconds += seconds
        turn.last_step = self._now
        produced = seq.num_output_tokens > turn.output
        if turn.seconds >= self._quantum(turn.level) and produced and turn.level < self._config.levels - 1:
            self._enter(seq, turn.level + 1, self._now)

    def _promote(self, running: tuple[SequenceView, ...]) -> None:
        """Those that had nothing for too long."""
        limit = self._now - self._config.promote_after
        starved = [seq for seq in running if self._turns[seq.order].last_step <= limit]
        for seq in self._idle.waiting():
            if self._idle.key(seq) > limit:
                break
            starved.append(seq)
        for seq in starved:
            self._join(seq, self._now)
            self._idle.put(seq, self._now)

    def _quantum(self, level: int) -> float:
        return self._config.quantum * self._config.ratio**level
