import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.interfaces import KVAllocator, KVCopy, KVLayout, Place, Tier
from quire.testing import AllocatorSuite, make_layout, make_sequence
from quire_plugins.allocators.radix import RadixAllocator, RadixConfig
from quire_plugins.allocators.radix_tree import RadixTree
from quire_plugins.eviction.cost_aware import CostAware, CostAwareConfig
from quire_plugins.eviction.lru import Lru, LruConfig


class TestRadix(AllocatorSuite):
    def make(self, layout: KVLayout) -> KVAllocator:
        return radix(layout)


class TestRadixWithCostAwareEviction(AllocatorSuite):
    def make(self, layout: KVLayout) -> KVAllocator:
        eviction = CostAware(config=CostAwareConfig())
        return RadixAllocator(config=RadixConfig(), layout=layout, eviction=eviction)


class TestRadixWithHostMemory(AllocatorSuite):
    has_host_memory = True

    def make(self, layout: KVLayout) -> KVAllocator:
        return radix(layout)


def radix(layout: KVLayout) -> RadixAllocator:
    return RadixAllocator(config=RadixConfig(), layout=layout, eviction=Lru(config=LruConfig()))


def serve(allocator: KVAllocator, tokens, order: int) -> int:
    """A sequence of `tokens` from its arrival to its end; how many of them were found."""
    seq = make_sequence(tokens, order=order).view
    hit = allocator.match(seq)
    assert allocator.grow(seq, len(tokens), hit)
    seq._sequence.num_computed = len(tokens)
    allocator.commit(seq, len(tokens))
    allocator.free(seq)
    allocator.check_integrity()
    return hit.num_tokens


def test_a_prefix_that_ends_inside_a_page_is_found_to_the_token():
    allocator = radix(make_layout(16))
    assert serve(allocator, [1, 2, 3, 4, 5, 6, 7, 8], 0) == 0
    assert serve(allocator, [1, 2, 3, 4, 5, 6, 9, 9, 9], 1) == 6
    copies = allocator.take_copies()
    assert len(copies) == 1
    assert copies[0].source == Place(Tier.DEVICE, 1), "the second page of the first sequence"
    assert serve(allocator, [1, 2, 3, 4, 5, 6, 9, 9, 8], 2) == 8, "a part of a page at the end counts too"
    assert serve(allocator, [2, 2], 3) == 0


def test_the_part_of_a_page_with_which_an_output_ended_is_the_start_of_the_next_turn():
    allocator = radix(make_layout(16))
    turn = list(range(11))
    serve(allocator, turn, 0)
    assert serve(allocator, [*turn, 77, 78], 1) == 11
    assert allocator.stats().prefix_hits == 11


def test_a_page_is_copied_in_every_group():
    allocator = radix(make_layout(16, 20))
    serve(allocator, [1, 2, 3], 0)
    allocator.take_copies()
    serve(allocator, [1, 2, 4], 1)
    groups = [(copy.group, copy.source, copy.target) for copy in allocator.take_copies()]
    assert groups == [(g, Place(Tier.DEVICE, 0), Place(Tier.DEVICE, 1)) for g in (0, 1)]


def test_the_last_page_in_memory_is_taken_over_rather_than_copied():
    allocator = radix(make_layout(2))
    serve(allocator, [1, 2, 3, 4, 5, 6], 0)
    seq = make_sequence([1, 2, 3, 4, 5, 9, 9], order=1).view
    hit = allocator.match(seq)
    assert hit.num_tokens == 5
    assert allocator.grow(seq, 7, hit)
    assert allocator.take_copies() == ()
    assert list(allocator.table(seq, 0)) == [0, 1]
    allocator.check_integrity()


def test_an_evicted_page_comes_back_from_host_memory_in_every_group():
    allocator = radix(make_layout(3, 3, host_blocks=(4, 4)))
    serve(allocator, [1, 2, 3, 4, 5, 6, 7, 8, 9], 0)
    serve(allocator, [21, 22, 23, 24, 25, 26, 27, 28, 29], 1)  # takes every page
    down = allocator.take_copies()
    assert {(copy.group, copy.source.tier, copy.target.tier) for copy in down} == {
        (group, Tier.DEVICE, Tier.HOST) for group in (0, 1)
    }
    assert len(down) == 4, "two whole pages of two groups; the part of the third page is not kept"
    kept = {(copy.group, copy.source.block): copy.target.block for copy in down}
    seq = make_sequence([1, 2, 3, 4, 5, 6, 7, 8, 11], order=2).view
    hit = allocator.match(seq)
    assert hit.num_tokens == 8
    assert hit.blocks == tuple(
        tuple(Place(Tier.HOST, kept[group, page]) for page in (0, 1)) for group in (0, 1)
    )
    assert allocator.grow(seq, 9, hit)
    back = [copy for copy in allocator.take_copies() if copy.source.tier is Tier.HOST]
    table = allocator.table(seq, 0)
    assert [(copy.group, copy.target) for copy in back] == [
        (group, Place(Tier.DEVICE, table[depth])) for group in (0, 1) for depth in (0, 1)
    ]
    allocator.check_integrity()


def test_a_swapped_sequence_copies_back_only_what_the_device_has_lost():
    allocator = radix(make_layout(4, host_blocks=(8,)))
    seq = make_sequence(range(11), order=0).view
    assert allocator.grow(seq, 10)
    seq._sequence.num_computed = 10
    allocator.commit(seq, 10)
    assert allocator.swap_out(seq)
    assert len(allocator.take_copies()) == 3
    assert allocator.stats().host_used == 3
    serve(allocator, [77, 78, 79, 80, 81, 82], 1)  # one page was free; the other is that of tokens 8 and 9
    seq._sequence.num_computed = 0
    hit = allocator.match(seq)
    assert hit.num_tokens == 10
    assert [isinstance(place, Place) for place in hit.blocks[0]] == [False, False, True]
    allocator.check_integrity()


def test_host_memory_is_that_of_the_option():
    assert RadixAllocator.host_bytes(RadixConfig()) == 0
    assert RadixAllocator.host_bytes(RadixConfig(host_bytes="2KiB")) == 2048


def test_a_fork_shares_whole_pages_and_copies_the_rest():
    allocator = radix(make_layout(16))
    parent = make_sequence(range(7), order=0).view
    assert allocator.grow(parent, 7)
    parent._sequence.num_computed = 7
    allocator.commit(parent, 7)
    child = make_sequence(range(7), order=1).view
    assert allocator.fork(parent, child) == 6, "all but the last, which is drawn from"
    assert allocator.take_copies() == (KVCopy(0, Place(Tier.DEVICE, 1), Place(Tier.DEVICE, 2)),)
    assert list(allocator.table(child, 0)) == [0, 2]
    allocator.check_integrity()


@pytest.mark.parametrize("size", [1, 3, 4])
@given(
    cached=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), max_size=8),
    asked=st.lists(st.integers(0, 2), min_size=1, max_size=12),
)
@settings(max_examples=300, derandomize=True, database=None, deadline=None)
def test_a_walk_finds_the_longest_common_prefix(size, cached, asked):
    """Against comparing with every cached sequence."""
    tree = RadixTree(page_size=size)
    page = 0
    for tokens in cached:
        node = tree.root
        for start in range(0, len(tokens), size):
            content = tuple(tokens[start : start + size])
            if len(node.tokens) < size and node is not tree.root:
                break
            node = node.children.get(content) or tree.insert(node, content, page := page + 1)
    path, part = tree.walk(asked, len(asked))
    found = len(path) * size + (part[1] if part else 0)
    longest = 0
    for tokens in cached:
        common = next((i for i, (a, b) in enumerate(zip(tokens, asked, strict=False)) if a != b), None)
        longest = max(longest, min(len(tokens), len(asked)) if common is None else common)
    assert found == longest
