"""Blocks that were used before are handed out before others, and those in ascending order: memory that nobody
wrote yet, whose pages the system has still to find, comes last and as `quire.runtime.page_ahead` expects it.
"""

from collections.abc import Callable

import pytest

from quire.interfaces import EvictionPolicy, KVAllocator, KVLayout
from quire.testing import make_layout, make_sequence
from quire_plugins.allocators.contiguous import ContiguousAllocator, ContiguousConfig
from quire_plugins.allocators.paged import PagedAllocator, PagedConfig
from quire_plugins.allocators.radix import RadixAllocator, RadixConfig
from quire_plugins.eviction.lru import Lru, LruConfig

Make = Callable[[KVLayout, EvictionPolicy], KVAllocator]
ALLOCATORS: dict[str, Make] = {
    "paged": lambda layout, lru: PagedAllocator(config=PagedConfig(), layout=layout, eviction=lru),
    "radix": lambda layout, lru: RadixAllocator(config=RadixConfig(), layout=layout, eviction=lru),
    "contiguous": lambda layout, lru: ContiguousAllocator(
        config=ContiguousConfig(), layout=layout, eviction=lru
    ),
}


@pytest.mark.parametrize("name", ALLOCATORS)
def test_unused_blocks_come_last_and_in_order(name):
    allocator = ALLOCATORS[name](make_layout(40, 40), Lru(config=LruConfig()))
    highest = -1
    living = []
    for order in range(12):
        view = make_sequence(range(100 * order, 100 * order + 9), order=order, max_tokens=3).view
        free_below = free_up_to(allocator, living, highest)
        assert allocator.grow(view, 12)
        living.append(view)
        blocks = [allocator.table(view, group) for group in range(2)]
        assert blocks[0][:] == blocks[1][:]
        fresh = [block for block in blocks[0] if block > highest]
        assert fresh == list(range(highest + 1, highest + 1 + len(fresh))), "without a gap"
        if fresh:
            assert free_below < 3, "there was room in what has been used"
        highest = max(highest, *blocks[0])
        if order % 3 == 2:
            allocator.free(living.pop(order % 2))
    assert highest < 39, "otherwise every order would do"


def free_up_to(allocator: KVAllocator, living: list, highest: int) -> int:
    """Blocks of those up to `highest` that no living sequence has."""
    return highest + 1 - sum(len(allocator.table(view, 0)) for view in living)


@pytest.mark.parametrize("name", ["paged", "radix"])
def test_unused_blocks_come_before_cached_ones_are_given_up(name):
    """Memory is asked for so that it is used: what is cached stays while there is any that was never used."""
    allocator = ALLOCATORS[name](make_layout(8), Lru(config=LruConfig()))
    for order in range(4):
        view = make_sequence(range(100 * order, 100 * order + 8), order=order).view
        assert allocator.grow(view, 8)
        assert list(allocator.table(view, 0)) == [2 * order, 2 * order + 1]
        allocator.commit(view, 8)
        allocator.free(view)
    assert allocator.stats().cached == 8
    assert allocator.stats().evictions == 0
