"""Andes (Liu et al., "Andes: Defining and Enhancing Quality-of-Experience in LLM-Based Text Streaming
Services", 2024): serve whose experience gains most from it, for the memory that it takes.

A user reads `reading_rate` tokens a second as long as there are any. Quality of experience (section 3) is the
area under the curve of tokens read over time, against that of a user who gets the first token after `ttft`
seconds and never has to wait again. Every `interval` seconds each request is priced: what its quality would
be `horizon` seconds on if it were served until then, less what it would be if it were not. Filling memory for
the largest sum of gains is a knapsack, packed greedily by gain per token of context (section 4). Who does not
get in gives way to who does, but no more than `max_preemptions` times; the paper limits the average instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from quire.config.checks import check_above_zero
from quire.engine.queues import QueueView
from quire.engine.records import StepRecord
from quire.engine.sequence import SequenceView, Status
from quire.engine.step import StepBuilder
from quire.errors import UserError
from quire.interfaces import Scheduler
from quire.scheduling import RankedQueue, serve_by_rank
from quire_plugins.schedulers.reader import Reader


@dataclass
class AndesConfig:
    """What a user expects, and how far ahead it is planned for."""

    ttft: float = 1.0
    """Seconds after which a user expects the first token."""
    reading_rate: float = 5.0
    """Tokens that a user reads in a second."""
    horizon: float = 10.0
    """Seconds ahead for which the gain is predicted."""
    interval: float = 0.2
    """Seconds between two plans."""
    max_preemptions: int = 4
    """Times that a sequence gives way to one that waits."""

    def __post_init__(self) -> None:
        check_above_zero("scheduler", self, "ttft", "reading_rate", "horizon", "interval")
        if self.max_preemptions < 0:
            raise UserError(f"scheduler.max_preemptions={self.max_preemptions}: must be at least 0")


class Andes(Scheduler):
    """By gain in quality of experience per token of memory, preemptive."""

    Config = AndesConfig

    def __init__(self, *, config: AndesConfig) -> None:
        self._config = config
        self._living = RankedQueue()
        """By (may still be preempted, minus the price)."""
        self._readers: dict[int, Reader] = {}
        self._given_way: dict[int, int] = {}
        """How often each has given way."""
        self._token_rate = config.reading_rate
        """Tokens a second that a sequence gets which is served, lately."""
        self._next_plan = 0.0
        self._now = 0.0

    def on_arrival(self, seq: SequenceView) -> None:
        self._readers[seq.order] = Reader(rate=self._config.reading_rate, time=seq.arrival_time)
        self._living.put(seq, self._key(seq))

    def on_finish(self, seq: SequenceView) -> None:
        self._living.discard(seq)
        del self._readers[seq.order]
        self._given_way.pop(seq.order, None)

    def on_step(self, record: StepRecord) -> None:
        if record.seconds > 0:
            self._token_rate += 0.1 * (1 / record.seconds - self._token_rate)

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        self._now = queues.now
        if self._now >= self._next_plan:  # it looks at every sequence, so not in every step
            self._next_plan = self._now + self._config.interval
            self._living.rekey(self._key)
        running = tuple(queues.running)
        serve_by_rank(queues, step, self._living.waiting(), rank=self._rank)
        for seq in running:
            if seq not in queues.running:
                self._given_way[seq.order] = self._given_way.get(seq.order, 0) + 1
                self._living.put(seq, self._key(seq))

    def _rank(self, seq: SequenceView) -> tuple[bool, bool, float, int]:
        """Who runs and has given way often enough before all others."""
        may_give_way, price = self._living.key(seq)
        return may_give_way or seq.status is Status.WAITING, may_give_way, price, seq.order

    def _key(self, seq: SequenceView) -> tuple[bool, float]:
        if self._given_way.get(seq.order, 0) >= self._config.max_preemptions:
            return False, 0.0  # it has given way often enough: first come, first served among these
        return True, -self._gain(seq) / seq.num_tokens

    def _gain(self, seq: SequenceView) -> float:
        """Quality after the horizon if it is served until then, less that if it is not."""
        now, horizon = max(self._now, seq.arrival_time), self._config.horizon
        reader = self._readers[seq.order]
        reader.read_until(now, delivered=seq.num_output_tokens)
        expecting = now + horizon - seq.arrival_time - self._config.ttft
        if expecting <= 0:
            return 0.0
        expected = self._config.reading_rate * expecting**2 / 2
        served = reader.area + reader.area_ahead(horizon, seq.num_output_tokens, self._token_rate)
        paused = reader.area + reader.area_ahead(horizon, seq.num_output_tokens, 0.0)
        return min(1.0, served / expected) - min(1.0, paused / expected)
