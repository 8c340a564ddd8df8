"""Engine, scheduler and allocator together under random workloads, every pair of them somewhere."""

from quire.interfaces import KVAllocator, KVLayout, Scheduler
from quire.testing import SchedulerSuite
from quire_plugins.allocators.contiguous import ContiguousAllocator, ContiguousConfig, Reserve
from quire_plugins.allocators.paged import PagedAllocator, PagedConfig
from quire_plugins.eviction.lru import Lru, LruConfig
from quire_plugins.schedulers.fcfs import Fcfs, FcfsConfig
from quire_plugins.schedulers.prefill_first import PrefillFirst, PrefillFirstConfig
from quire_plugins.schedulers.sarathi import Sarathi, SarathiConfig
from quire_plugins.schedulers.static import Static, StaticConfig


def paged(layout: KVLayout) -> KVAllocator:
    return PagedAllocator(config=PagedConfig(), layout=layout, eviction=Lru(config=LruConfig()))


def contiguous(layout: KVLayout, reserve: Reserve) -> KVAllocator:
    config = ContiguousConfig(reserve=reserve, reserve_tokens=3)
    return ContiguousAllocator(config=config, layout=layout, eviction=Lru(config=LruConfig()))


class TestFcfsOnPaged(SchedulerSuite):
    def make(self) -> Scheduler:
        return Fcfs(config=FcfsConfig())

    def make_allocator(self, layout: KVLayout) -> KVAllocator:
        return paged(layout)


class TestFcfsOnContiguous(TestFcfsOnPaged):
    def make_allocator(self, layout: KVLayout) -> KVAllocator:
        return contiguous(layout, Reserve.max_tokens)


class TestFcfsOnContiguousOfFixedReserve(TestFcfsOnPaged):
    def make_allocator(self, layout: KVLayout) -> KVAllocator:
        return contiguous(layout, Reserve.fixed)


class TestSarathiOnPaged(SchedulerSuite):
    def make(self) -> Scheduler:
        return Sarathi(config=SarathiConfig(chunk_tokens=7))

    def make_allocator(self, layout: KVLayout) -> KVAllocator:
        return paged(layout)


class TestSarathiOnContiguousOfFixedReserve(TestSarathiOnPaged):
    def make_allocator(self, layout: KVLayout) -> KVAllocator:
        return contiguous(layout, Reserve.fixed)


class TestPrefillFirstOnPaged(SchedulerSuite):
    def make(self) -> Scheduler:
        return PrefillFirst(config=PrefillFirstConfig())

    def make_allocator(self, layout: KVLayout) -> KVAllocator:
        return paged(layout)


class TestStaticOnPaged(SchedulerSuite):
    def make(self) -> Scheduler:
        return Static(config=StaticConfig())

    def make_allocator(self, layout: KVLayout) -> KVAllocator:
        return paged(layout)


class TestStaticOnContiguousOfFixedReserve(TestStaticOnPaged):
    def make_allocator(self, layout: KVLayout) -> KVAllocator:
        return contiguous(layout, Reserve.fixed)
