from quire.interfaces import KVAllocator, KVLayout
from quire.testing.allocator_suite import AllocatorSuite
from quire.testing.naive_allocator import NaiveAllocator


class TestNaive(AllocatorSuite):
    def make(self, layout: KVLayout) -> KVAllocator:
        return NaiveAllocator(layout=layout)
