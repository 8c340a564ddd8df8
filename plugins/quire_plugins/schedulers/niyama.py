"""Niyama (Goel et al., "Niyama: Breaking the Silos of LLM Inference Serving", 2025, section 3; ASPLOS
2026): one engine for tiers of different deadlines.

- Deadlines: an interactive request wants its first token `ttft` seconds after its arrival and
  one every `tbt` seconds from then on; one that has a `deadline` wants its last token by then.
- Dynamic chunking: a step computes as much prefill as the slack of the decodes in it allows.
- Hybrid prioritization: prefills by deadline + `alpha` x their work, between earliest deadline first
  and shortest remaining prefill first.
- Eager relegation: who cannot make its deadline any more goes behind all that can.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from quire.config.checks import check_not_negative
from quire.engine.queues import QueueView
from quire.engine.records import StepRecord
from quire.engine.sequence import SequenceView
from quire.engine.step import StepBuilder
from quire.errors import UserError
from quire.interfaces import LengthPredictor, Scheduler
from quire.scheduling import RankedQueue, add_or_preempt
from quire_plugins.schedulers.step_time import StepTime


@dataclass
class NiyamaConfig:
    """Promises and priorities. `predictor=` says who predicts output lengths."""

    ttft: float = 6.0
    """Seconds from the arrival to the first token."""
    tbt: float = 0.1
    """Seconds between tokens."""
    tiers: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Tenants who are promised something else: [ttft, tbt], as in +scheduler.tiers.chat=[1.0,0.05]."""
    alpha: float = 0.001
    """Seconds of deadline that a token still to prefill counts as; 0: earliest deadline first."""
    min_chunk: int = 32
    """Prefill tokens of a step at least, so that decodes without slack do not stop prefills for ever."""
    relegate: bool = True
    """Whether requests that are bound to miss their deadline wait for all others."""

    def __post_init__(self) -> None:
        self._check_promise("", self.ttft, self.tbt)
        for tenant, promise in self.tiers.items():
            if len(promise) != 2:
                raise UserError(f"scheduler.tiers.{tenant}={promise}: must be [ttft, tbt]")
            self._check_promise(f"tiers.{tenant}.", *promise)
        check_not_negative("scheduler", self, "alpha", what="number of seconds")
        if self.min_chunk < 1:
            raise UserError(f"scheduler.min_chunk={self.min_chunk}: must be at least 1")

    @staticmethod
    def _check_promise(prefix: str, ttft: float, tbt: float) -> None:
        for name, seconds in (("ttft", ttft), ("tbt", tbt)):
            if not 0 < seconds < float("inf"):
                raise UserError(f"scheduler.{prefix}{name}={seconds}: must be a number of seconds > 0")


_QUANTILE = 0.9
"""Of the output length: the paper takes the mean and two standard deviations of an application's outputs."""
_SHORT = 0.1
"""Who would be late even with an output as short as this quantile is bound to be late: by the long estimate
above, whole tiers would be put off that mostly end in time."""


class Niyama(Scheduler):
    """Decodes, then as much prefill as their slack allows, the most urgent first."""

    Config = NiyamaConfig
    uses_predictor = True

    def __init__(self, *, config: NiyamaConfig, predictor: LengthPredictor) -> None:
        self._config = config
        self.predictor: LengthPredictor = predictor
        self._step_time = StepTime()
        self._decode_seconds = 0.0
        """Of a step, lately."""
        self._living = RankedQueue()
        """By (relegated, urgency)."""

    def check(self, seq: SequenceView, now: float) -> None:
        if seq.deadline is not None and seq.deadline <= now:
            raise UserError(f"deadline={seq.deadline}: has passed, it is {now:.6f}; must be later")

    def on_arrival(self, seq: SequenceView) -> None:
        self._put(seq, relegated=False)

    def on_finish(self, seq: SequenceView) -> None:
        self._living.discard(seq)

    def on_step(self, record: StepRecord) -> None:
        self._step_time.observe(record)
        self._decode_seconds += 0.1 * (record.seconds - self._decode_seconds)

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        if self._config.relegate:
            self._relegate(queues)
        running = sorted(queues.running, key=self._living.rank)
        decodes = [seq for seq in running if seq.remaining == 1]
        for seq in decodes:
            add_or_preempt(seq, queues, step, rank=self._living.rank)
        slack = min((self._due(seq) - queues.now for seq in decodes if not self._late(seq)), default=None)
        budget = self._chunk(slack, step)
        for seq in running:  # prefills that have begun hold memory, so they go first
            if seq.remaining > 1 and budget:
                budget -= add_or_preempt(seq, queues, step, budget, rank=self._living.rank)
        if len(queues.running) < len(running):
            return
        for seq in self._living.waiting():
            grant = step.add(seq, budget) if budget else None
            if not grant:
                break
            budget -= grant.tokens

    def _chunk(self, slack: float | None, step: StepBuilder) -> int:
        """Prefill tokens with which the step still takes no longer than `slack` seconds (None: any time)."""
        if slack is None:
            return step.tokens_left
        chunk = self._step_time.tokens_within(slack, len(step) + step.tokens_left) - len(step)
        return min(max(chunk, self._config.min_chunk), step.tokens_left)

    def _relegate(self, queues: QueueView) -> None:
        """Put back who is bound to be late, of those that run and those at the head of the line."""
        doomed = [
            seq for seq in queues.running if seq.deadline is not None and self._due(seq, _SHORT) < queues.now
        ]
        for seq in self._living.waiting():
            if self._late(seq) or queues.now + self._step_time.seconds(seq.remaining) <= self._due(
                seq, _SHORT
            ):
                break
            doomed.append(seq)
        for seq in doomed:
            self._put(seq, relegated=True)

    def _put(self, seq: SequenceView, *, relegated: bool) -> None:
        self._living.put(seq, (relegated, self._due(seq) + self._config.alpha * seq.num_tokens))

    def _late(self, seq: SequenceView) -> bool:
        """Whether it was relegated."""
        relegated: bool = self._living.key(seq)[0]
        return relegated

    def _due(self, seq: SequenceView, q: float = _QUANTILE) -> float:
        """When its next token must be there; with a deadline for the last one, less the decodes after it, if
        its output is as long as quantile `q`."""
        if seq.deadline is not None:
            left = self.predictor.quantile(seq, q) - seq.num_output_tokens
            return seq.deadline - (left - 1) * self._decode_seconds
        ttft, tbt = self._config.tiers.get(seq.tenant, (self._config.ttft, self._config.tbt))
        return seq.arrival_time + ttft + seq.num_output_tokens * tbt
