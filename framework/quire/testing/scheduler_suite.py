"""What every scheduler must do, as tests that a scheduler's own tests inherit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quire.engine.config import EngineConfig
from quire.engine.request import Request, SamplingParams
from quire.interfaces.allocator import KVAllocator, KVLayout
from quire.interfaces.scheduler import Scheduler
from quire.interfaces.victim import VictimPolicy
from quire.testing.arrivals import arrivals, engine_configs
from quire.testing.layouts import kv_layouts, make_layout
from quire.testing.naive_allocator import NaiveAllocator
from quire.testing.rehearsal import Arrival, Rehearsal

_VOCAB = 8
_EOS = (7,)


class SchedulerSuite(ABC):
    """Inherit, and say how to make one:

        class TestMine(SchedulerSuite):
            def make(self) -> Scheduler:
                return Mine(config=MineConfig())

    The policy runs in the real engine, on small memory and small budgets, with an executor that checks what
    every row of every step would see. It must bring every request to its end, whatever the order of events,
    must change nothing except through the step, and must decide the same when asked the same.
    """

    may_reject: bool = False
    """Set it if the policy turns requests away, in `check` or with `step.reject`."""

    @abstractmethod
    def make(self) -> Scheduler:
        """A new scheduler that has seen nothing."""

    def make_allocator(self, layout: KVLayout) -> KVAllocator:
        """The allocator beneath; the default is on demand and shares nothing."""
        return NaiveAllocator(layout=layout)

    def make_victims(self) -> VictimPolicy | None:
        """Who gives way where memory lacks; the default is whoever ranks last."""
        return None

    def test_random_workloads(self) -> None:
        @given(
            layout=kv_layouts(min_tokens=30, max_tokens=90),
            config=engine_configs(),
            workload=arrivals(vocab_size=_VOCAB),
            seed=st.integers(0, 3),
        )
        @settings(
            max_examples=100,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        def every_request_comes_to_its_end(
            layout: KVLayout, config: EngineConfig, workload: list[Arrival], seed: int
        ) -> None:
            self._rehearse(workload, layout=layout, config=config, seed=seed)

        every_request_comes_to_its_end()

    def test_many_requests_through_little_memory(self) -> None:
        """Thirty requests, of which memory holds about four at a time: all of them end."""
        workload = [
            _arrival(name=f"r{i}", prompt=10 + i % 7, output=5 + i % 11, step=i // 3) for i in range(30)
        ]
        for overlap in (False, True):
            config = EngineConfig(max_sequences=8, max_step_tokens=16, overlap=overlap)
            self._rehearse(workload, layout=make_layout(24, block_size=4), config=config)

    def test_a_sequence_as_long_as_memory(self) -> None:
        """It needs every block, so whoever else runs must be out of its way at some time."""
        workload = [_arrival(name=f"r{i}", prompt=20, output=12, step=i) for i in range(3)]
        for budget in (1, 5, 64):
            config = EngineConfig(max_sequences=4, max_step_tokens=budget)
            self._rehearse(workload, layout=make_layout(8, block_size=4), config=config)

    def test_a_prompt_longer_than_a_step(self) -> None:
        workload = [_arrival(name=f"r{i}", prompt=50, output=3) for i in range(2)]
        config = EngineConfig(max_sequences=4, max_step_tokens=7)
        self._rehearse(workload, layout=make_layout(64, block_size=4), config=config)

    def test_the_same_is_decided_again(self) -> None:
        """A policy has no clock and no randomness but those given to it, so a run can be repeated."""
        workload = [_arrival(name=f"r{i}", prompt=4 + 5 * (i % 4), output=6, step=i) for i in range(12)]
        config = EngineConfig(max_sequences=4, max_step_tokens=12)
        plans = [
            self._rehearse(workload, layout=make_layout(16, block_size=4), config=config).executor.plans
            for _ in range(2)
        ]
        assert plans[0] == plans[1]

    def test_overlap_changes_no_output(self) -> None:
        """Scheduled while a step runs, the policy sees tokens in flight; what is generated stays the same."""
        workload = [_arrival(name=f"r{i}", prompt=3 + i, output=8, step=i) for i in range(8)]
        config = EngineConfig(max_sequences=4, max_step_tokens=16)
        layout = make_layout(12, block_size=4)
        runs = [
            self._rehearse(workload, layout=layout, config=replace(config, overlap=overlap))
            for overlap in (False, True)
        ]
        if not self.may_reject:
            assert runs[0].samples == runs[1].samples

    def _rehearse(
        self, workload: list[Arrival], *, layout: KVLayout, config: EngineConfig, seed: int = 0
    ) -> Rehearsal:
        layout = replace(layout, max_step_tokens=config.max_step_tokens)
        rehearsal = Rehearsal(
            scheduler=self.make(),
            layout=layout,
            allocator=self.make_allocator(layout),
            victims=self.make_victims(),
            config=config,
            vocab_size=_VOCAB,
            eos_token_ids=_EOS,
            seed=seed,
        )
        rehearsal.run(workload)
        rehearsal.check_outputs(may_reject=self.may_reject)
        return rehearsal


def _arrival(*, name: str, prompt: int, output: int, step: int = 0) -> Arrival:
    """A request of that many tokens, which ends by its length alone."""
    sampling = SamplingParams(max_tokens=output, temperature=0.0, ignore_eos=True)
    tokens = tuple((len(name) * position + output) % _VOCAB for position in range(prompt))
    return Arrival(request=Request(id=name, prompt_token_ids=tokens, sampling=sampling), step=step)
