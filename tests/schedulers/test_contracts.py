"""Every scheduler of the shelf keeps the contract of its kind: with the options that it has, with small
ones that bring out what it does, with a prefix cache, and with every choice of victim."""

import pytest

from quire.interfaces import KVAllocator, KVLayout, Scheduler, VictimPolicy
from quire.registry import load_registry
from quire.testing import SchedulerSuite
from quire_plugins.allocators.contiguous import ContiguousAllocator, ContiguousConfig
from quire_plugins.allocators.paged import PagedAllocator, PagedConfig
from quire_plugins.eviction.lru import Lru, LruConfig
from quire_plugins.predictors.history import History, HistoryConfig
from quire_plugins.schedulers.andes import Andes, AndesConfig
from quire_plugins.schedulers.dlpm import Dlpm, DlpmConfig
from quire_plugins.schedulers.edf import Edf, EdfConfig
from quire_plugins.schedulers.lpm import Lpm, LpmConfig
from quire_plugins.schedulers.ltr import Ltr, LtrConfig
from quire_plugins.schedulers.mlfq import Mlfq, MlfqConfig
from quire_plugins.schedulers.niyama import Niyama, NiyamaConfig
from quire_plugins.schedulers.orca import Orca, OrcaConfig
from quire_plugins.schedulers.past_future import PastFuture, PastFutureConfig
from quire_plugins.schedulers.priority import Priority, PriorityConfig
from quire_plugins.schedulers.sjf import Sjf, SjfConfig
from quire_plugins.schedulers.srpt import Srpt, SrptConfig
from quire_plugins.schedulers.vtc import Vtc, VtcConfig


def history() -> History:
    return History(config=HistoryConfig(), seed=0)


class OnPaged(SchedulerSuite):
    def make_allocator(self, layout: KVLayout) -> KVAllocator:
        return PagedAllocator(config=PagedConfig(), layout=layout, eviction=Lru(config=LruConfig()))


class TestOrca(SchedulerSuite):
    def make(self) -> Scheduler:
        return Orca(config=OrcaConfig())


class TestOrcaOfTwoOnContiguous(SchedulerSuite):
    def make(self) -> Scheduler:
        return Orca(config=OrcaConfig(batch_size=2))

    def make_allocator(self, layout: KVLayout) -> KVAllocator:
        return ContiguousAllocator(config=ContiguousConfig(), layout=layout, eviction=Lru(config=LruConfig()))


class TestOrcaOnPaged(TestOrca, OnPaged):
    pass


class TestPriority(SchedulerSuite):
    def make(self) -> Scheduler:
        return Priority(config=PriorityConfig())


class TestPriorityWithoutAgeingOnPaged(OnPaged):
    def make(self) -> Scheduler:
        return Priority(config=PriorityConfig(aging=0.0))


class TestPriorityWithoutPreemption(SchedulerSuite):
    def make(self) -> Scheduler:
        return Priority(config=PriorityConfig(preempt=False))


class TestSjf(SchedulerSuite):
    def make(self) -> Scheduler:
        return Sjf(config=SjfConfig(), predictor=history())


class TestSrpt(SchedulerSuite):
    def make(self) -> Scheduler:
        return Srpt(config=SrptConfig(preempt_until=1.0), predictor=history())


class TestSrptOnPaged(OnPaged):
    def make(self) -> Scheduler:
        return Srpt(config=SrptConfig(aging=10.0), predictor=history())


class TestLtr(SchedulerSuite):
    def make(self) -> Scheduler:
        return Ltr(config=LtrConfig(), predictor=history())


class TestLtrWithShortTurns(OnPaged):
    def make(self) -> Scheduler:
        return Ltr(config=LtrConfig(starvation_steps=10, quantum=4), predictor=history())


class TestMlfq(SchedulerSuite):
    def make(self) -> Scheduler:
        return Mlfq(config=MlfqConfig())


class TestMlfqWithShortTurns(OnPaged):
    def make(self) -> Scheduler:
        return Mlfq(config=MlfqConfig(levels=3, quantum=0.02, promote_after=0.3))


class TestVtc(SchedulerSuite):
    def make(self) -> Scheduler:
        return Vtc(config=VtcConfig())


class TestVtcWithWeights(OnPaged):
    may_reject = True

    def make(self) -> Scheduler:
        return Vtc(config=VtcConfig(weights={"one": 1.0, "default": 3.0}))  # "two" has none


class TestDlpm(SchedulerSuite):
    def make(self) -> Scheduler:
        return Dlpm(config=DlpmConfig())


class TestDlpmWithSmallQuanta(OnPaged):
    def make(self) -> Scheduler:
        return Dlpm(config=DlpmConfig(quantum=1.0, window=1))


class TestLpm(OnPaged):
    def make(self) -> Scheduler:
        return Lpm(config=LpmConfig())


class TestLpmWithSmallWindow(OnPaged):
    def make(self) -> Scheduler:
        return Lpm(config=LpmConfig(window=2, aging=100.0))


class TestEdf(SchedulerSuite):
    may_reject = True

    def make(self) -> Scheduler:
        return Edf(config=EdfConfig())


class TestNiyama(SchedulerSuite):
    may_reject = True

    def make(self) -> Scheduler:
        return Niyama(config=NiyamaConfig(), predictor=history())


class TestNiyamaUnderPressure(OnPaged):
    may_reject = True

    def make(self) -> Scheduler:
        config = NiyamaConfig(ttft=0.02, tbt=0.011, tiers={"two": [0.05, 0.02]}, min_chunk=1)
        return Niyama(config=config, predictor=history())


class TestAndes(SchedulerSuite):
    def make(self) -> Scheduler:
        return Andes(config=AndesConfig())


class TestAndesWithQuickUsers(OnPaged):
    def make(self) -> Scheduler:
        config = AndesConfig(ttft=0.01, reading_rate=50.0, horizon=0.1, interval=0.02, max_preemptions=3)
        return Andes(config=config)


class TestPastFuture(SchedulerSuite):
    def make(self) -> Scheduler:
        return PastFuture(config=PastFutureConfig(), predictor=history())


class TestPastFutureOnPaged(TestPastFuture, OnPaged):
    pass


@pytest.mark.parametrize("victim", load_registry().names("victim"))
class TestEveryVictim:
    """Two orders, one preemptive, under every choice of who gives way."""

    @pytest.mark.parametrize("scheduler", ["fcfs", "srpt"])
    def test_all_requests_end_in_little_memory(self, scheduler, victim):
        registry = load_registry()

        class Suite(SchedulerSuite):
            def make(self) -> Scheduler:
                plugin = registry.get("scheduler", scheduler)
                parts = {"predictor": history()} if plugin.uses_predictor else {}
                return plugin(config=plugin.Config(), **parts)

            def make_victims(self) -> VictimPolicy:
                plugin = registry.get("victim", victim)
                parts = {"predictor": history()} if plugin.uses_predictor else {}
                return plugin(config=plugin.Config(), **parts)

        suite = Suite()
        suite.test_many_requests_through_little_memory()
        suite.test_a_sequence_as_long_as_memory()
        suite.test_overlap_changes_no_output()
