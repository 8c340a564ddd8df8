"""A run of the real engine without a model: every policy may be in it, and every step is checked.

rehearsal = Rehearsal(scheduler=Mine(config=MineConfig()), layout=make_layout(16))
rehearsal.run([Arrival(request=Request(id="a", prompt_token_ids=(1, 2, 3)))])
rehearsal.check_outputs()
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, field

from quire.clock import VirtualClock
from quire.engine.config import EngineConfig
from quire.engine.engine import Engine
from quire.engine.outputs import SequenceOutput
from quire.engine.queues import QueueView
from quire.engine.records import StepRecord
from quire.engine.request import Request
from quire.engine.sequence import FinishReason, SequenceView
from quire.engine.step import StepBuilder
from quire.errors import RequestRefused, UserError
from quire.interfaces.allocator import KVAllocator, KVLayout
from quire.interfaces.scheduler import Scheduler
from quire.interfaces.victim import VictimPolicy
from quire.models.model import ModelInfo
from quire.testing.naive_allocator import NaiveAllocator
from quire.testing.script import Script
from quire.testing.scripted_executor import ScriptedExecutor


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """A request that arrives before the engine's step of that number, and may be aborted before another."""

    request: Request
    step: int = 0
    abort: int | None = None


@dataclass(slots=True)
class Sample:
    """What came of one sample of a request."""

    tokens: list[int] = field(default_factory=list[int])
    finish_reason: FinishReason | None = None
    error: str | None = None


class WatchedScheduler(Scheduler):
    """Passes everything on, and asserts that the policy changes nothing but through the step."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.predictor = scheduler.predictor
        self.refused: set[str] = set()
        """Requests that the policy's `check` refused."""

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        views = [*queues.waiting, *queues.running]
        before = [portrait(view) for view in views]
        self._scheduler.schedule(queues, step)
        for view, was in zip(views, before, strict=True):
            now = portrait(view)
            assert now == was, (
                f"{type(self._scheduler).__name__} changed {view} while scheduling: {was} to {now}"
            )

    def check(self, seq: SequenceView, now: float) -> None:
        try:
            self._scheduler.check(seq, now)
        except UserError:
            self.refused.add(seq.id.partition("/")[0])
            raise

    def on_arrival(self, seq: SequenceView) -> None:
        self._scheduler.on_arrival(seq)

    def on_finish(self, seq: SequenceView) -> None:
        self._scheduler.on_finish(seq)

    def on_step(self, record: StepRecord) -> None:
        self._scheduler.on_step(record)


class Rehearsal:
    """An engine with a scripted executor, virtual time, and an allocator that shares nothing by default."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        layout: KVLayout,
        allocator: KVAllocator | None = None,
        victims: VictimPolicy | None = None,
        config: EngineConfig | None = None,
        vocab_size: int = 16,
        eos_token_ids: tuple[int, ...] = (),
        seed: int = 0,
    ) -> None:
        self._config = config = config or EngineConfig()
        self.script = Script(vocab_size=vocab_size)
        self.clock = VirtualClock()
        info = ModelInfo(
            name="script", vocab_size=vocab_size, max_tokens=layout.max_tokens, eos_token_ids=eos_token_ids
        )
        self.executor = ScriptedExecutor(
            script=self.script, info=info, kv_groups=layout.groups, clock=self.clock
        )
        self.executor.start(layout, max_sequences=config.max_sequences)
        self.allocator = allocator or NaiveAllocator(layout=layout)
        self._scheduler = WatchedScheduler(scheduler)
        self.engine = Engine(
            config=config,
            scheduler=self._scheduler,
            victims=victims,
            allocator=self.allocator,
            layout=layout,
            executor=self.executor,
            clock=self.clock,
            info=info,
            seed=seed,
        )
        self.arrivals: dict[str, Arrival] = {}
        self.samples: dict[tuple[str, int], Sample] = {}
        self.refused: set[str] = set()
        self.steps = 0

    def run(self, arrivals: Items[Arrival]) -> None:
        """Serve `arrivals` to the end, and assert that there is one, and that it leaves nothing behind."""
        for arrival in arrivals:
            assert arrival.request.id not in self.arrivals, f"two requests named {arrival.request.id}"
            self.arrivals[arrival.request.id] = arrival
        limit = self._most_steps()
        while self.engine.has_work or any(arrival.step >= self.steps for arrival in arrivals):
            for arrival in arrivals:
                if arrival.step == self.steps:
                    self._add(arrival.request)
                if arrival.abort == self.steps:
                    self.engine.abort(arrival.request.id)
            for output in self.engine.step():
                self._take(output)
            self._check_step()
            self.steps += 1
            assert self.steps <= limit, (
                f"after {limit} steps {self.engine.num_waiting} sequences wait and {self.engine.num_running} "
                f"run: a livelock? {self.allocator.stats()}"
            )
        used = self.allocator.stats().used
        assert used == 0, f"{used} blocks are still in use after the last sequence ended"
        assert self.engine.num_waiting == self.engine.num_running == 0
        self.engine.close()

    def check_outputs(self, *, may_reject: bool = False) -> None:
        """Assert that every sample came to exactly what the script says, and ended for the right reason.

        An aborted one has the beginning of it. Refused is what could never fit, and nothing else.
        """
        for arrival in self.arrivals.values():
            request = arrival.request
            if request.id in self.refused:
                assert may_reject or request.id not in self._scheduler.refused, f"{request.id} was refused"
                continue
            for index in range(request.sampling.n):
                sample = self.samples.get((request.id, index))
                assert sample is not None or arrival.abort is not None, f"{request.id}/{index} has no output"
                if sample is not None:
                    self._check_sample(arrival, index, sample, may_reject)

    def _check_sample(self, arrival: Arrival, index: int, sample: Sample, may_reject: bool) -> None:
        request = arrival.request
        name = request.id if request.sampling.n == 1 else f"{request.id}/{index}"
        reason = sample.finish_reason
        assert reason is not None, f"{name} never ended"
        assert reason is not FinishReason.ERROR or may_reject, f"{name} failed: {sample.error}"
        assert reason is not FinishReason.ABORT or arrival.abort is not None, f"{name} was aborted"
        expected = self.script.output(
            request,
            seed=self.executor.seeds.get(name, 0),
            eos_token_ids=self.engine.info.eos_token_ids,
            limit=self.engine.max_model_tokens - len(request.prompt_token_ids),
        )
        if reason in (FinishReason.ABORT, FinishReason.ERROR):
            expected = expected[: len(sample.tokens)]
        assert sample.tokens == expected, f"{name} came to {sample.tokens}, not {expected}"

    def _check_step(self) -> None:
        self.allocator.check_integrity()
        stats = self.allocator.stats()
        assert stats.free + stats.used + stats.cached == stats.total, f"blocks are not conserved: {stats}"
        for plan in self.executor.plans[-1:]:
            assert plan.num_tokens <= self._config.max_step_tokens, f"{plan.num_tokens} tokens in a step"
            assert len(plan.rows) <= self._config.max_sequences, f"{len(plan.rows)} sequences in a step"

    def _add(self, request: Request) -> None:
        longest = self.engine.max_model_tokens
        wanted = max(request.forced_output_tokens or 0, request.sampling.max_tokens or 1)
        too_long = len(request.prompt_token_ids) + wanted > longest
        try:
            self.engine.add(request)
        except RequestRefused:
            self.refused.add(request.id)
        refused = request.id in self.refused
        expected = too_long or request.id in self._scheduler.refused
        assert refused == expected, f"{request.id} refused: {refused}; longest sequence: {longest} tokens"

    def _take(self, output: SequenceOutput) -> None:
        sample = self.samples.setdefault((output.request_id, output.index), Sample())
        assert sample.finish_reason is None, f"{output} came after the end"
        sample.tokens.extend(output.token_ids)
        sample.finish_reason = output.finish_reason
        sample.error = output.error

    def _most_steps(self) -> int:
        """Far more than any policy needs that makes progress: a step for each token, ten times over."""
        tokens = 0
        for arrival in self.arrivals.values():
            request = arrival.request
            output = (
                request.forced_output_tokens or request.sampling.max_tokens or self.engine.max_model_tokens
            )
            tokens += request.sampling.n * (len(request.prompt_token_ids) + output)
        return 10 * tokens + 10 + max((arrival.step for arrival in self.arrivals.values()), default=0)


def portrait(view: SequenceView) -> tuple[object, ...]:
    """Everything about a sequence that a policy could change if it tried."""
    return (
        tuple(view.token_ids),
        view.num_tokens,
        view.num_computed,
        view.status,
        view.order,
        view.priority,
        view.deadline,
        view.arrival_time,
        view.max_tokens,
        view.num_preemptions,
    )
