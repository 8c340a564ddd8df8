from quire.interfaces import KVAllocator, KVLayout
from quire.testing import AllocatorSuite, NaiveAllocator


class TestNaive(AllocatorSuite):
    def make(self, layout: KVLayout) -> KVAllocator:
        return NaiveAllocator(layout=layout)
