"""The engine: continuous batching as a loop of schedule, run, commit.

    add -> waiting --schedule--> running --submit--> executor --collect--> commit -> outputs
              ^                     |
              +----- preempted -----+

With overlap, step n + 1 is scheduled and submitted while step n runs. The scheduler then counts the token
that step n samples as part of the sequence, unknown as it is; if that token turns out to end the sequence,
the row in step n + 1 is computed for nothing and its result dropped. This holds for any scheduler.

Why blocks may be freed while a step that names them is in flight: steps run in order, so whoever gets the
block next writes it after the step in flight has ended.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from quire.clock import Clock
from quire.engine.admission import Admission, longest_sequence
from quire.engine.config import EngineConfig
from quire.engine.dispatch import Dispatch
from quire.engine.finish import finish_reason
from quire.engine.flight import Flight
from quire.engine.outputs import SequenceOutput
from quire.engine.plan import Row, RowResult, StepPlan
from quire.engine.profile import IDLE, WAIT, Profile, Unprofiled
from quire.engine.records import StepRecord
from quire.engine.request import Request
from quire.engine.roster import Roster
from quire.engine.sequence import FinishReason, Sequence, Status
from quire.engine.shape import StepShape
from quire.engine.step import SealedStep, StepBuilder
from quire.errors import RequestRefused, UserError
from quire.interfaces.allocator import KVAllocator, KVLayout
from quire.interfaces.executor import Executor, ExecutorLost, OutOfDeviceMemory
from quire.interfaces.sampler import LogitsProcessor
from quire.interfaces.scheduler import Scheduler
from quire.interfaces.victim import VictimPolicy
from quire.models.model import ModelInfo

if TYPE_CHECKING:
    from quire.text.tokenizer import Tokenizer

_log = logging.getLogger(__name__)


class SchedulerStuck(RuntimeError):
    """A scheduler added nothing to a step although nothing runs that could change the situation."""


@dataclass(slots=True)
class _Preemptions:
    """Those that no step has reported yet."""

    total: int = 0
    swapped: int = 0
    swap_fallbacks: int = 0


class Engine:
    """Serves requests on one executor. Not thread-safe: one thread adds, aborts and steps."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        scheduler: Scheduler,
        allocator: KVAllocator,
        layout: KVLayout,
        executor: Executor,
        clock: Clock,
        info: ModelInfo,
        victims: VictimPolicy | None = None,
        tokenizer: Tokenizer | None = None,
        processors: Iterable[LogitsProcessor] = (),
        seed: int = 0,
        profile: Profile | None = None,
    ) -> None:
        self.clock = clock
        self.info = info
        self.tokenizer = tokenizer
        self.profile = profile
        self._watch = Unprofiled() if profile is None else profile
        self._rested = True
        """Whether there was no work when the latest step ended."""
        self._config = config
        self._scheduler = scheduler
        self._victims = victims
        predictors = (scheduler.predictor, None if victims is None else victims.predictor)
        self._predictors = {id(each): each for each in predictors if each is not None}.values()
        self._allocator = allocator
        self._layout = layout
        self._executor = executor
        self._dispatch = Dispatch(
            allocator=allocator,
            num_groups=len(layout.groups),
            max_sequences=config.max_sequences,
            seed=seed,
        )
        self._depth = executor.depth if config.overlap else 1
        self._admission = Admission(
            model_tokens=info.max_tokens,
            kv_tokens=longest_sequence(allocator, info.max_tokens),
            vocab_size=info.vocab_size,
            processors=processors,
            has_text=tokenizer is not None,
        )
        self._roster = Roster(
            allocator=allocator,
            dispatch=self._dispatch,
            tokenizer=tokenizer,
            max_sequences=config.max_sequences,
            now=clock.now(),
        )
        self._flights: deque[Flight] = deque()
        self._outputs: list[SequenceOutput] = []
        self._records: list[StepRecord] = []
        self._next_step = 0
        self._step_tokens = config.max_step_tokens
        """Tokens in a step at most: fewer after one that took more memory than the device has."""
        self._unreported = _Preemptions()
        allocator.bind(self._roster.view)

    @property
    def max_model_tokens(self) -> int:
        """The longest sequence, prompt and output, that is admitted."""
        return self._admission.max_tokens

    @property
    def allocator(self) -> KVAllocator:
        """For statistics and integrity checks."""
        return self._allocator

    @property
    def num_waiting(self) -> int:
        return len(self._roster.waiting)

    @property
    def num_running(self) -> int:
        return len(self._roster.running)

    @property
    def has_work(self) -> bool:
        """Whether another `step` would do or deliver something."""
        return bool(self._roster or self._flights or self._outputs)

    def add(self, request: Request) -> None:
        """Queue a request. Raises RequestRefused if it can never be served; nothing has changed then."""
        self._roster.check_name(request)
        declared = self._admission.declared_tokens(request)
        now = self.clock.now()
        sequence = self._roster.first(request, max_tokens=declared, now=now)
        try:
            self._scheduler.check(sequence.view, now)
            for predictor in self._predictors:
                predictor.on_arrival(sequence.view, request)
        except UserError as error:
            raise RequestRefused(f"request {request.id!r}: {error}") from None
        self._roster.enter(sequence)
        self._scheduler.on_arrival(sequence.view)

    def abort(self, request_id: str) -> bool:
        """End every sample of a request; False if there is no such request. Its outputs say `ABORT`."""
        sequences = self._roster.of(request_id)
        for sequence in sequences:
            self._finish(sequence, FinishReason.ABORT)
        return bool(sequences)

    def step(self) -> list[SequenceOutput]:
        """Schedule and submit one step, commit the oldest one that is due, and return what is new."""
        self._watch.turn(IDLE if self._rested else "output")
        submitted = len(self._flights) < self._depth and self._schedule()
        if self._flights and (not submitted or len(self._flights) >= self._depth):
            self._commit()
        outputs, self._outputs = self._outputs, []
        self._rested = not self.has_work
        return outputs

    def take_records(self) -> list[StepRecord]:
        """Records of the steps committed since the last call."""
        records, self._records = self._records, []
        return records

    def close(self) -> None:
        """Stop; requests still living are forgotten."""
        self._executor.close()

    # -- schedule ------------------------------------------------------------------------------------------

    def _schedule(self) -> bool:
        """Fill, seal and submit a step; False if there was nothing to submit."""
        queues = self._roster.look(self.clock.now())
        if not queues.waiting and not queues.running:
            return False
        step = StepBuilder(
            queues=queues,
            allocator=self._allocator,
            layout=self._layout,
            victims=self._victims,
            max_tokens=self._step_tokens,
            max_sequences=self._config.max_sequences,
            num_holding=len(self._roster.running),
            preemption=self._config.preemption,
        )
        began = time.perf_counter()
        self._scheduler.schedule(queues, step)
        schedule_seconds = time.perf_counter() - began
        sealed = step.seal()
        self._watch.lap("schedule")
        self._carry_out(sealed)
        if not sealed.entries:
            if not self._flights and not sealed.preempted and not sealed.rejected:
                raise SchedulerStuck(
                    f"{type(self._scheduler).__name__} added nothing to step {self._next_step} although "
                    f"no step is under way: {len(queues.waiting)} waiting, {len(queues.running)} running, "
                    f"{step.kv}"
                )
            return False
        self._submit(sealed, schedule_seconds)
        return True

    def _carry_out(self, sealed: SealedStep) -> None:
        """Move sequences between the queues as the policy decided; their memory has moved already."""
        for sequence in sealed.preempted:
            self._roster.preempt(sequence)
        self._unreported.total += len(sealed.preempted)
        self._unreported.swapped += sealed.num_swapped
        self._unreported.swap_fallbacks += sealed.num_swap_fallbacks
        for sequence, why in sealed.rejected:
            self._finish(sequence, FinishReason.ERROR, f"rejected by {type(self._scheduler).__name__}: {why}")

    def _submit(self, sealed: SealedStep, schedule_seconds: float) -> None:
        now = self.clock.now()
        for entry in sealed.entries:
            if entry.sequence.status is Status.WAITING:
                self._roster.start(entry.sequence, num_computed=entry.start)
            entry.sequence.record.mark_scheduled(now, cached_tokens=entry.start)
        rows = tuple(map(self._dispatch.row, sealed.entries))
        plan = StepPlan(
            index=self._next_step,
            rows=rows,
            shape=StepShape.of(rows),
            copies=self._allocator.take_copies(),
        )
        self._next_step += 1
        self._executor.submit(plan)
        self._flights.append(
            Flight(
                plan=plan,
                entries=sealed.entries,
                epochs=tuple(entry.sequence.num_preemptions for entry in sealed.entries),
                start=now,
                schedule_seconds=schedule_seconds,
                num_preempted=self._unreported.total,
                num_swapped=self._unreported.swapped,
                num_swap_fallbacks=self._unreported.swap_fallbacks,
                kv=self._allocator.stats(),
            )
        )
        self._unreported = _Preemptions()
        self._watch.lap("dispatch")

    # -- commit --------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Wait for the oldest step under way and carry out what it brought.

        An interrupt while waiting loses nothing: the step is still under way.
        """
        flight = self._flights[0]
        try:
            result = self._executor.collect()
        except OutOfDeviceMemory as error:
            self._flights.popleft()
            self._retreat(flight, error)
            return
        except ExecutorLost:
            raise
        except Exception as error:  # whatever broke the step breaks its sequences, and no others
            self._flights.popleft()
            reason = f"step {flight.plan.index} failed: {type(error).__name__}: {error}"
            for sequence in flight.living():
                self._finish(sequence, FinishReason.ERROR, reason)
            return
        self._flights.popleft()
        assert result.index == flight.plan.index, "results come in the order of the plans"
        self._watch.lap(WAIT)
        self._watch.add_step(flight.plan, result)
        now = self.clock.now()
        sampled = [
            (sequence, outcome)
            for sequence, row, outcome in flight.landing(result)
            if self._take_in(sequence, row, outcome, now)
        ]
        self._watch.lap("commit")
        texts = [_text(sequence) for sequence, _ in sampled]
        self._watch.lap("detokenise")
        for (sequence, outcome), text in zip(sampled, texts, strict=True):
            self._deliver(sequence, outcome, text, now)
        record = StepRecord.of(
            flight.plan,
            result,
            flight.kv,
            block_size=self._layout.block_size,
            start=flight.start,
            end=now,
            schedule_seconds=flight.schedule_seconds,
            num_running=self.num_running,
            num_waiting=self.num_waiting,
            num_preempted=flight.num_preempted,
            num_swapped=flight.num_swapped,
            num_swap_fallbacks=flight.num_swap_fallbacks,
        )
        self._records.append(record)
        self._scheduler.on_step(record)
        self._watch.lap("commit")

    def _retreat(self, flight: Flight, error: OutOfDeviceMemory) -> None:
        """A step was more than the device has memory for: its sequences wait again, and from now on steps
        take half as many tokens, for good: what such a step loses would be lost at every try to grow again. A
        single token that is too much is refused.
        """
        tokens = sum(row.count for row in flight.plan.rows)
        sequences = list(flight.living())
        if tokens == 1:
            for sequence in sequences:
                self._finish(sequence, FinishReason.ERROR, f"step {flight.plan.index}, of one token: {error}")
            return
        for sequence in sequences:
            self._allocator.free(sequence.view)
            self._roster.preempt(sequence)
        self._unreported.total += len(sequences)
        self._step_tokens = min(self._step_tokens, tokens // 2)
        _log.warning(
            "step %d of %d tokens: %s; its %d sequences wait again, and steps now take up to %d tokens",
            flight.plan.index,
            tokens,
            error,
            len(sequences),
            self._step_tokens,
        )

    def _take_in(self, sequence: Sequence, row: Row, outcome: RowResult, now: float) -> bool:
        """Enter what a row computed; whether that is a token."""
        if outcome.error is not None:
            self._finish(sequence, FinishReason.ERROR, outcome.error)
            return False
        self._allocator.commit(sequence.view, row.start + row.count)
        sequence.prompt_logprobs.extend(outcome.prompt_logprobs)
        if not row.samples:
            return False
        assert outcome.token_id is not None, f"row of {sequence.id} samples but has no token"
        sequence.num_pending -= 1
        sequence.tokens.append(outcome.token_id)
        sequence.record.token_times.append(now)
        return True

    def _deliver(self, sequence: Sequence, outcome: RowResult, text: str, now: float) -> None:
        """Pass on a sequence's newest token, and end or fork the sequence where that is due."""
        token = sequence.tokens[-1]
        first = sequence.num_output_tokens == 1
        reason = finish_reason(sequence, self.info.eos_token_ids)
        if reason is not None:
            text += sequence.text.flush() if sequence.text is not None else ""
            sequence.record.finish = now
            sequence.record.finish_reason = reason.value
        self._outputs.append(
            SequenceOutput(
                request_id=sequence.request.id,
                index=sequence.index,
                token_ids=(token,),
                text=text,
                logprobs=() if outcome.logprobs is None else (outcome.logprobs,),
                prompt_logprobs=tuple(sequence.prompt_logprobs) if first else (),
                finish_reason=reason,
                record=sequence.record if reason is not None else None,
            )
        )
        if first and sequence.index == 0:
            for child in self._roster.fork(sequence):
                for predictor in self._predictors:
                    predictor.on_arrival(child.view, child.request)
                self._scheduler.on_arrival(child.view)
        if reason is not None:
            self._end(sequence, sequence.num_output_tokens)

    def _finish(self, sequence: Sequence, reason: FinishReason, error: str | None = None) -> None:
        """End a sequence that did not end by its own token, and samples that were to be forked from it."""
        now = self.clock.now()
        unforked = sequence.index == 0 and sequence.num_output_tokens == 0
        for index in range(sequence.sampling.n) if unforked else (sequence.index,):
            record = replace(
                sequence.record, sample=index, finish=now, finish_reason=reason.value, error=error
            )
            self._outputs.append(
                SequenceOutput(
                    request_id=sequence.request.id,
                    index=index,
                    token_ids=(),
                    text=sequence.text.flush() if sequence.text is not None else "",
                    finish_reason=reason,
                    error=error,
                    record=record,
                )
            )
        self._end(sequence, None)

    def _end(self, sequence: Sequence, output_tokens: int | None) -> None:
        """Forget a sequence whose last output is on its way; `output_tokens` if it came to its own end."""
        self._roster.end(sequence)
        for predictor in self._predictors:
            predictor.on_finish(sequence.view, output_tokens)
        self._scheduler.on_finish(sequence.view)


def _text(sequence: Sequence) -> str:
    """What its newest token adds to its text."""
    return "" if sequence.text is None else sequence.text.append(sequence.tokens[-1:])
