"""`NewPlugin` keeps the contract of every KV allocator, and grows as its option says."""

from quire.cli.templates.allocator import NewPlugin, NewPluginConfig
from quire.interfaces import CachedBlock, EvictionPolicy, KVAllocator, KVLayout
from quire.testing import AllocatorSuite, make_layout, make_sequence


class Unused(EvictionPolicy):
    """`NewPlugin` caches nothing, so it has nothing to ask of an eviction policy."""

    def add(self, block: CachedBlock) -> None:
        raise AssertionError(f"{block} was cached")

    def remove(self, block: CachedBlock) -> None:
        raise AssertionError(f"{block} was never cached")

    def victim(self, group: int) -> CachedBlock:
        raise AssertionError("nothing can be evicted")

    def __len__(self) -> int:
        return 0


class TestContract(AllocatorSuite):
    def make(self, layout: KVLayout) -> KVAllocator:
        return NewPlugin(config=NewPluginConfig(), layout=layout, eviction=Unused())


class TestContractThreeAtOnce(AllocatorSuite):
    histories = 50

    def make(self, layout: KVLayout) -> KVAllocator:
        return NewPlugin(config=NewPluginConfig(blocks_at_once=3), layout=layout, eviction=Unused())


def test_it_grows_by_several_blocks_at_once():
    allocator = NewPlugin(
        config=NewPluginConfig(blocks_at_once=3), layout=make_layout(8, block_size=4), eviction=Unused()
    )
    seq = make_sequence(range(13)).view
    assert allocator.grow(seq, 1)
    assert len(allocator.table(seq, 0)) == 3
    assert allocator.grow(seq, 12)
    assert len(allocator.table(seq, 0)) == 3
    assert allocator.grow(seq, 13)
    assert len(allocator.table(seq, 0)) == 6
