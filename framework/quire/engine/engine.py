"""The engine: continuous batching as a loop of schedule, run, commit.

    add -> waiting --schedule--> running --submit--> executor --collect--> commit -> outputs
              ^                     |
              +----- preempted -----+

With overlap, step n + 1 is scheduled and submitted while step n runs. The scheduler then counts the token
that step n samples as part of the sequence, unknown as it is; if that token turns out to end the sequence,
the row in step n + 1 is computed for nothing and its result dropped. This holds for any scheduler.

Why blocks may be freed while a step that names them is in flight: steps run in order, so whoever gets the
block next writes it after the step in flight has ended.

Who does what: the roster keeps the queues, a step builder holds the policies to what is legal, dispatch makes
a plan of what they decided, delivery makes tokens and outputs of its results, recovery sees to a step that
failed, and the audience (scheduler, predictors) hears who comes and goes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from quire.clock import Clock
from quire.engine.admission import Admission, longest_sequence
from quire.engine.audience import Audience
from quire.engine.config import EngineConfig
from quire.engine.delivery import Delivery
from quire.engine.dispatch import Dispatch
from quire.engine.flight import Flight, Preemptions
from quire.engine.outputs import SequenceOutput
from quire.engine.profile import IDLE, WAIT, Profile, Unprofiled
from quire.engine.records import StepRecord
from quire.engine.recovery import Recovery
from quire.engine.request import Request
from quire.engine.roster import Roster
from quire.engine.sequence import FinishReason, Status
from quire.engine.step import SealedStep, StepBuilder
from quire.interfaces.allocator import KVAllocator, KVLayout
from quire.interfaces.executor import Executor, ExecutorLost
from quire.interfaces.sampler import LogitsProcessor
from quire.interfaces.scheduler import Scheduler
from quire.interfaces.victim import VictimPolicy
from quire.models.model import ModelInfo

if TYPE_CHECKING:
    from quire.text.tokenizer import Tokenizer


def _always(pieces: int) -> bool:
    del pieces
    return True


class SchedulerStuck(RuntimeError):
    """A scheduler added nothing to a step although nothing runs that could change the situation."""


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
        self._audience = Audience(scheduler=scheduler, victims=victims)
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
        self._delivery = Delivery(
            roster=self._roster,
            allocator=allocator,
            audience=self._audience,
            eos_token_ids=info.eos_token_ids,
            clock=clock,
        )
        self._recovery = Recovery(
            roster=self._roster,
            allocator=allocator,
            delivery=self._delivery,
            max_step_tokens=config.max_step_tokens,
        )
        self._flights: deque[Flight] = deque()
        self._records: list[StepRecord] = []
        self._unreported = Preemptions()
        """Those that no step under way reports."""
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
        return bool(self._roster or self._flights or self._delivery)

    @property
    def num_generated(self) -> int:
        """Tokens that sequences have got since the engine was made."""
        return self._delivery.num_tokens

    def add(self, request: Request, *, whole: bool = False) -> None:
        """Queue a request. Raises RequestRefused if it can never be served; nothing has changed then.

        With `whole` each sample comes as one piece, when it has ended: cheaper where nobody reads along.
        """
        self._roster.check_name(request)
        declared = self._admission.declared_tokens(request)
        now = self.clock.now()
        sequence = self._roster.first(request, max_tokens=declared, whole=whole, now=now)
        self._audience.check(sequence, now)
        self._roster.enter(sequence)
        self._audience.entered(sequence)

    def abort(self, request_id: str) -> bool:
        """End every sample of a request; False if there is no such request. Its outputs say `ABORT`."""
        sequences = self._roster.of(request_id)
        for sequence in sequences:
            self._delivery.finish(sequence, FinishReason.ABORT)
        return bool(sequences)

    def step(self, *, lets: Callable[[int], bool] = _always) -> list[SequenceOutput]:
        """Schedule and submit one step, commit the oldest one that is due, and return what is new.

        The first and the last piece of a sample always come. Of those between, `lets(number)` says whether
        so many may come now; what it holds back comes in one piece with that of a later step.
        """
        self._watch.turn(IDLE if self._rested else "output")
        submitted = len(self._flights) < self._depth and self._schedule()
        if self._flights and (not submitted or len(self._flights) >= self._depth):
            self._commit()
        outputs = self._delivery.take_outputs(lets)
        self._watch.lap("tell")
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
            max_tokens=self._recovery.step_tokens,
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
                    f"{type(self._scheduler).__name__} added nothing to step {self._dispatch.num_plans} "
                    f"although no step is under way: {len(queues.waiting)} waiting, "
                    f"{len(queues.running)} running, {step.kv}"
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
            reason = f"rejected by {type(self._scheduler).__name__}: {why}"
            self._delivery.finish(sequence, FinishReason.ERROR, reason)

    def _submit(self, sealed: SealedStep, schedule_seconds: float) -> None:
        now = self.clock.now()
        for entry in sealed.entries:
            if entry.sequence.status is Status.WAITING:
                self._roster.start(entry.sequence, num_computed=entry.start)
            entry.sequence.record.mark_scheduled(now, cached_tokens=entry.start)
        plan = self._dispatch.plan(sealed.entries)
        self._executor.submit(plan)
        self._flights.append(
            Flight(
                plan=plan,
                entries=sealed.entries,
                epochs=tuple(entry.sequence.num_preemptions for entry in sealed.entries),
                start=now,
                schedule_seconds=schedule_seconds,
                preemptions=self._unreported,
                kv=self._allocator.stats(),
            )
        )
        self._unreported = Preemptions()
        self._watch.lap("dispatch")

    # -- commit --------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Wait for the oldest step under way and carry out what it brought.

        An interrupt while waiting loses nothing: the step is still under way.
        """
        flight = self._flights[0]
        try:
            result = self._executor.collect()
        except ExecutorLost:
            raise
        except Exception as error:
            self._flights.popleft()
            self._watch.lap(WAIT)
            self._unreported.total += self._recovery.recover(flight, error)
            return
        self._flights.popleft()
        assert result.index == flight.plan.index, "results come in the order of the plans"
        self._watch.lap(WAIT)
        self._watch.add_step(flight.plan, result)
        now = self.clock.now()
        sampled = self._delivery.take_in(flight.landing(result), now)
        self._delivery.deliver(sampled, now)
        record = StepRecord.of(
            flight,
            result,
            end=now,
            block_size=self._layout.block_size,
            num_running=self.num_running,
            num_waiting=self.num_waiting,
        )
        self._records.append(record)
        self._scheduler.on_step(record)
        self._watch.lap("commit")
