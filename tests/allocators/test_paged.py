from collections import deque
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.engine.sequence import SequenceView
from quire.interfaces import CachedBlock, KVAllocator, KVLayout
from quire.testing import AllocatorSuite, make_layout, make_sequence
from quire_plugins.allocators.paged import PagedAllocator, PagedConfig
from quire_plugins.eviction.lru import Lru, LruConfig


class TestPaged(AllocatorSuite):
    def make(self, layout: KVLayout) -> KVAllocator:
        return paged(layout)


class TestPagedWithoutPrefixCache(AllocatorSuite):
    def make(self, layout: KVLayout) -> KVAllocator:
        return paged(layout, prefix_cache=False)


class TestPagedWithHostMemory(TestPaged):
    has_host_memory = True


class TestPagedWithHostMemoryAndNoPrefixCache(TestPagedWithoutPrefixCache):
    has_host_memory = True


def paged(layout: KVLayout, *, prefix_cache: bool = True) -> PagedAllocator:
    config = PagedConfig(prefix_cache=prefix_cache)
    return PagedAllocator(config=config, layout=layout, eviction=Lru(config=LruConfig()))


def compute(allocator: KVAllocator, seq: SequenceView, end: int, *, chunk: int = 1000) -> bool:
    """What the engine does for the first `end` tokens of `seq`, in steps of `chunk` tokens."""
    held = len(allocator.table(seq, 0)) > 0
    start = seq.num_computed
    hit = None if held else allocator.match(seq)
    if hit is not None:
        start = hit.num_tokens
    while start < end:
        start = min(start + chunk, end)
        if not allocator.grow(seq, start, hit):
            return False
        hit = None
        seq._sequence.num_computed = start
        allocator.commit(seq, start)
    allocator.check_integrity()
    return True


def serve(allocator: KVAllocator, tokens: list[int], order: int) -> None:
    """A sequence of `tokens` from its arrival to its end."""
    seq = make_sequence(tokens, order=order).view
    assert compute(allocator, seq, len(tokens))
    allocator.free(seq)


def hit_tokens(allocator: KVAllocator, tokens: list[int]) -> int:
    """What a newcomer with these tokens would find; it then goes away again."""
    seq = make_sequence(tokens, order=-1).view
    found = allocator.match(seq).num_tokens
    allocator.free(seq)
    return found


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=14), min_size=1, max_size=8))
@settings(max_examples=100, derandomize=True, database=None, deadline=None)
def test_a_hit_is_the_longest_computed_prefix_in_whole_blocks(prompts: list[list[int]]) -> None:
    allocator = paged(make_layout(64, 64, block_size=2, windows=(None, 3)))
    published: set[tuple[int, ...]] = set()
    for order, prompt in enumerate(prompts):
        lengths = range(2, len(prompt), 2)
        expected = max((n for n in lengths if tuple(prompt[:n]) in published), default=0)
        seq = make_sequence(prompt, order=order).view
        hit = allocator.match(seq)
        # A longer prefix may have lost a block; whatever is found must not miss one that is complete.
        assert hit.num_tokens == expected
        assert compute(allocator, seq, len(prompt), chunk=3)
        allocator.free(seq)
        published |= {tuple(prompt[:n]) for n in range(2, len(prompt) + 1, 2)}


@given(
    served=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=12), min_size=1, max_size=12),
    windows=st.sampled_from([(None,), (3,), (None, 3), (2, 7)]),
    log_length=st.sampled_from([1, 3, 100]),
)
@settings(max_examples=150, derandomize=True, database=None, deadline=None)
def test_what_a_search_remembers_is_what_it_would_find(
    served: list[list[int]], windows: tuple[int | None, ...], log_length: int
) -> None:
    blocks = (9,) * len(windows)
    allocator = paged(make_layout(*blocks, block_size=2, windows=windows))
    log = allocator._index._log
    log._recent = deque(maxlen=log_length)
    waiting = [make_sequence(prompt, order=100 + i).view for i, prompt in enumerate(served)]
    for order, prompt in enumerate(served):
        serve(allocator, prompt, order)
        for i, seq in enumerate(waiting):
            fresh = make_sequence(seq.token_ids, order=1000 * (order + 1) + i).view
            assert allocator.match(seq) == allocator.match(fresh)


def test_a_prefix_is_found_while_its_first_owner_still_runs() -> None:
    allocator = paged(make_layout(8))
    first = make_sequence(range(10)).view
    assert compute(allocator, first, 10)
    second = make_sequence([*range(8), 50, 51], order=1).view
    hit = allocator.match(second)
    assert hit.num_tokens == 8
    assert allocator.grow(second, 10, hit)
    assert list(allocator.table(second, 0)[:2]) == list(allocator.table(first, 0)[:2])
    assert allocator.table(second, 0)[2] != allocator.table(first, 0)[2]
    assert allocator.stats().used == 4


def test_what_was_not_committed_is_not_found() -> None:
    allocator = paged(make_layout(8))
    first = make_sequence(range(10)).view
    assert allocator.grow(first, 10)
    assert hit_tokens(allocator, list(range(10))) == 0
    allocator.commit(first, 7)
    assert hit_tokens(allocator, list(range(10))) == 4
    allocator.commit(first, 10)
    assert hit_tokens(allocator, list(range(10))) == 8


def test_the_last_token_is_always_left_to_compute() -> None:
    allocator = paged(make_layout(8))
    serve(allocator, list(range(8)), 0)
    assert hit_tokens(allocator, list(range(8))) == 4
    assert hit_tokens(allocator, list(range(9))) == 8


def test_equal_blocks_after_different_beginnings_differ() -> None:
    allocator = paged(make_layout(8))
    serve(allocator, [1, 1, 1, 1, 7, 7, 7, 7, 0], 0)
    assert hit_tokens(allocator, [2, 2, 2, 2, 7, 7, 7, 7, 0]) == 0
    assert hit_tokens(allocator, [7, 7, 7, 7, 0]) == 0


def test_output_tokens_are_found_too() -> None:
    allocator = paged(make_layout(8))
    seq = make_sequence(range(6)).view
    assert compute(allocator, seq, 6)
    for token in range(100, 104):
        seq._sequence.tokens.append(token)
        assert compute(allocator, seq, len(seq._sequence.tokens))
    allocator.free(seq)
    assert hit_tokens(allocator, [*range(6), 100, 101, 5]) == 8


def test_memory_lacks_exactly_when_free_and_cached_blocks_do_not_suffice() -> None:
    allocator = paged(make_layout(8))
    serve(allocator, list(range(12)), 0)  # three blocks cached
    running = make_sequence(range(100, 108), order=1).view
    assert compute(allocator, running, 8)  # two in use, three free
    big = make_sequence(range(200, 225), order=2).view
    assert not allocator.grow(big, 25)
    assert allocator.stats().cached == 5 - 2, "nothing was evicted for a request that failed"
    assert allocator.grow(big, 24)
    stats = allocator.stats()
    assert (stats.free, stats.used, stats.cached, stats.evictions) == (0, 8, 0, 3)


def test_a_hit_is_not_evicted_to_make_room_for_its_own_sequence() -> None:
    allocator = paged(make_layout(4))
    serve(allocator, list(range(16)), 0)
    seq = make_sequence([*range(12), *range(50, 55)], order=1).view
    hit = allocator.match(seq)
    assert hit.num_tokens == 12
    assert not allocator.grow(seq, 17, hit), "two blocks are needed and only one is not part of the hit"
    assert allocator.grow(seq, 16, hit)
    assert list(allocator.table(seq, 0))[:3] == list(hit.blocks[0])
    assert len(set(allocator.table(seq, 0))) == 4


def test_the_end_of_a_prefix_is_evicted_before_its_beginning() -> None:
    allocator = paged(make_layout(4))
    serve(allocator, list(range(16)), 0)
    serve(allocator, [50, 51, 52], 1)
    assert hit_tokens(allocator, list(range(17))) == 12
    serve(allocator, list(range(60, 67)), 2)
    assert hit_tokens(allocator, list(range(17))) == 8


def test_least_recently_used_goes_first() -> None:
    allocator = paged(make_layout(6))
    for order, first in enumerate((0, 100, 200)):
        serve(allocator, list(range(first, first + 8)), order)
    serve(allocator, list(range(9)), 3)  # takes the first prefix into use again, and one block of the second
    assert hit_tokens(allocator, list(range(9))) == 8
    assert hit_tokens(allocator, list(range(100, 109))) == 4
    assert hit_tokens(allocator, list(range(200, 209))) == 8


def test_equal_content_computed_twice_is_cached_once() -> None:
    allocator = paged(make_layout(8))
    twins = [make_sequence(range(8), order=order).view for order in range(2)]
    for seq in twins:
        assert allocator.grow(seq, 8)
    for seq in twins:
        allocator.commit(seq, 8)
    assert allocator.stats().used == 4
    for seq in twins:
        allocator.free(seq)
    stats = allocator.stats()
    assert (stats.free, stats.cached) == (6, 2)


def test_windows_give_blocks_back_and_need_few_for_a_hit() -> None:
    allocator = paged(make_layout(16, 6, windows=(None, 5)))
    seq = make_sequence(range(40)).view
    assert compute(allocator, seq, 40, chunk=4), "ten blocks pass through six"
    table = list(allocator.table(seq, 1))
    # The last step began at 36. A fork at the block boundary before that, 32, would see keys from 28 on.
    assert [block is None for block in table] == [True] * 7 + [False] * 3
    assert None not in allocator.table(seq, 0)
    allocator.free(seq)
    other = make_sequence([*range(38), 99, 99], order=1).view
    hit = allocator.match(other)
    assert hit.num_tokens == 36
    assert hit.blocks[1][:8] == (None,) * 8
    assert hit.blocks[1][8] == table[8]


def test_a_hit_ends_where_every_window_is_whole() -> None:
    # Three groups of pools so small that each forgets another part of the prefix.
    allocator = paged(make_layout(16, 7, 5, windows=(None, 9, 5)))
    serve_in_steps = make_sequence(range(40)).view
    assert compute(allocator, serve_in_steps, 40, chunk=4)
    allocator.free(serve_in_steps)
    hits = []
    for order in range(1, 8):  # each takes away one more block of every group's prefix
        serve(allocator, [100 * order, 0, 0, 0], order)
        hits.append(hit_tokens(allocator, list(range(41))))
        visible = [40, *(hits[-1] - w + 1 for w in (9, 5))]
        assert hits[-1] == 0 or min(visible) >= 0
    assert hits == sorted(hits, reverse=True)
    assert hits[0] == 40


def test_fits_counts_what_a_window_holds_at_once() -> None:
    assert not paged(make_layout(100, 6, windows=(None, 5))).fits(25), "a step may compute it all at once"
    assert paged(make_layout(100, 4, windows=(None, 5), max_step_tokens=8)).fits(400)
    assert not paged(make_layout(100, 3, windows=(None, 5), max_step_tokens=8)).fits(400)
    assert paged(make_layout(100, 3, windows=(None, 5), max_step_tokens=8)).fits(12)
    assert not paged(make_layout(99, 4, windows=(None, 5), max_step_tokens=8)).fits(400)


@given(
    block_size=st.integers(1, 4),
    window=st.integers(1, 9),
    step=st.integers(1, 10),
    chunks=st.lists(st.integers(1, 10), min_size=1, max_size=20),
)
@settings(max_examples=200, derandomize=True, database=None, deadline=None)
def test_what_fits_passes_through_in_any_chunks(
    block_size: int, window: int, step: int, chunks: list[int]
) -> None:
    chunks = [min(chunk, step) for chunk in chunks]
    length = sum(chunks)
    for blocks in range(1, 100):
        spec = make_layout(blocks, block_size=block_size, windows=(window,), max_step_tokens=step)
        allocator = paged(spec)
        if allocator.fits(length):
            break
    seq = make_sequence(range(length)).view
    end = 0
    for chunk in chunks:
        end += chunk
        assert compute(allocator, seq, end)


def test_fork_shares_whole_blocks_that_both_keep() -> None:
    allocator = paged(make_layout(16, 16, windows=(None, 5)))
    parent = make_sequence(range(18), order=0).view
    assert compute(allocator, parent, 18, chunk=5)
    child = make_sequence(range(18), order=1).view
    assert allocator.fork(parent, child) == 16
    child._sequence.num_computed = 16
    assert list(allocator.table(child, 0)) == list(allocator.table(parent, 0)[:4])
    assert list(allocator.table(child, 1)) == [None, None, None, allocator.table(parent, 1)[3]]
    assert compute(allocator, child, 18)
    assert allocator.table(child, 0)[4] != allocator.table(parent, 0)[4]
    allocator.free(parent)
    allocator.check_integrity()
    allocator.free(child)
    assert allocator.stats().used == 0


def test_fork_needs_no_prefix_cache_but_a_request_that_may_share() -> None:
    allocator = paged(make_layout(16), prefix_cache=False)
    parent = make_sequence(range(9)).view
    assert compute(allocator, parent, 9)
    assert allocator.fork(parent, make_sequence(range(9), order=1).view) == 8
    unshared = make_sequence(range(9), order=2, shares_prefixes=False).view
    assert allocator.fork(parent, unshared) == 0
    assert len(allocator.table(unshared, 0)) == 0


def test_without_prefix_cache_nothing_is_kept() -> None:
    allocator = paged(make_layout(8), prefix_cache=False)
    serve(allocator, list(range(8)), 0)
    assert allocator.stats().free == 8
    assert hit_tokens(allocator, list(range(9))) == 0
    assert allocator.stats().prefix_queries == 0


def test_who_needs_every_token_computed_starts_from_nothing_and_still_serves_others() -> None:
    allocator = paged(make_layout(8))
    serve(allocator, list(range(8)), 0)
    seq = make_sequence(range(9), order=1, shares_prefixes=False).view
    assert allocator.match(seq).num_tokens == 0


def test_counts_of_tokens() -> None:
    allocator = paged(make_layout(16, 16, windows=(None, 100)))
    first = make_sequence(range(10)).view
    assert compute(allocator, first, 10)
    assert allocator.stats().tokens_held == 2 * 10
    second = make_sequence(range(13), order=1).view
    assert compute(allocator, second, 13)
    # 8 tokens are shared, so they are held once.
    assert allocator.stats().tokens_held == 2 * (10 + 13 - 8)
    stats = allocator.stats()
    assert (stats.prefix_queries, stats.prefix_hits) == (10 + 13, 8)
    allocator.free(second)
    second._sequence.num_computed, second._sequence.num_preemptions = 0, 1
    assert compute(allocator, second, 13)
    stats = allocator.stats()
    assert (stats.prefix_queries, stats.prefix_hits) == (10 + 13, 8), "a recomputation is not a new prompt"


def test_a_waiting_prompt_is_searched_once_while_nothing_changes() -> None:
    allocator = paged(make_layout(8))
    serve(allocator, list(range(8)), 0)
    seq = make_sequence(range(11), order=1).view
    assert allocator.match(seq) is allocator.match(seq)
    serve(allocator, list(range(50, 58)), 2)
    assert allocator.match(seq).num_tokens == 8, "publications elsewhere change nothing"
    serve(allocator, list(range(100, 120)), 3)  # takes the four free blocks and the prefix's last
    assert allocator.match(seq).num_tokens == 4


def test_reset_cache_forgets_only_what_nobody_holds() -> None:
    allocator = paged(make_layout(8))
    serve(allocator, list(range(8)), 0)
    running = make_sequence(range(50, 59), order=1).view
    assert compute(allocator, running, 9)
    allocator.reset_cache()
    allocator.check_integrity()
    assert hit_tokens(allocator, list(range(9))) == 0
    assert hit_tokens(allocator, list(range(50, 60))) == 8
    stats = allocator.stats()
    assert (stats.free, stats.used, stats.cached, stats.evictions) == (5, 3, 0, 0)


def test_an_eviction_policy_that_chooses_a_block_in_use_is_caught() -> None:
    class Wrong(Lru):
        def add(self, block: CachedBlock) -> None:
            super().add(block)
            self.last = block

        def victim(self, group: int) -> CachedBlock:
            return self.last

    allocator = PagedAllocator(
        config=PagedConfig(), layout=make_layout(2), eviction=Wrong(config=LruConfig())
    )
    serve(allocator, list(range(8)), 0)
    seq = make_sequence([0, 1, 2, 3, 9], order=1).view
    with pytest.raises(AssertionError, match="Wrong chose"):
        allocator.grow(seq, 8, allocator.match(seq))


def test_a_child_publishes_what_its_parent_did_not_live_to_publish() -> None:
    allocator = paged(make_layout(16))
    parent = make_sequence(range(9)).view
    assert allocator.grow(parent, 9)
    parent._sequence.num_computed = 9  # in a step under way, with overlap
    child = make_sequence(range(9), order=1).view
    assert allocator.fork(parent, child) == 8
    child._sequence.num_computed = 8
    allocator.free(parent)
    assert hit_tokens(allocator, list(range(9))) == 0, "nobody has said that it is computed"
    assert compute(allocator, child, 9)
    assert hit_tokens(allocator, list(range(9))) == 8


def test_an_eviction_policy_learns_depth_hits_and_order_of_use() -> None:
    class Watching(Lru):
        seen: ClassVar[list[tuple[int, int, int]]] = []

        def add(self, block: CachedBlock) -> None:
            super().add(block)
            self.seen.append((block.depth, block.hits, block.last_use))

    eviction = Watching(config=LruConfig())
    allocator = PagedAllocator(config=PagedConfig(), layout=make_layout(8), eviction=eviction)
    serve(allocator, list(range(8)), 0)
    serve(allocator, list(range(6)), 1)
    assert [(depth, hits) for depth, hits, _ in eviction.seen] == [(1, 0), (0, 0), (0, 1)]
    assert [use for _, _, use in eviction.seen] == [1, 2, 3]


def test_a_prefix_that_went_and_came_back_is_found_where_it_is_now() -> None:
    allocator = paged(make_layout(3, block_size=2))
    serve(allocator, [0, 1], 0)
    waiting = make_sequence([0, 1, 5], order=1).view
    before = allocator.match(waiting)
    serve(allocator, [7, 7, 8, 8], 2)
    serve(allocator, [9, 9], 3)  # takes the block of the first
    serve(allocator, [0, 1], 4)
    after = allocator.match(waiting)
    assert before.num_tokens == after.num_tokens == 2
    assert before.blocks != after.blocks
    assert after == allocator.match(make_sequence([0, 1, 5], order=5).view)
