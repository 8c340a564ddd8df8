import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.errors import UserError
from quire.interfaces import KVAllocator, KVLayout
from quire.testing import AllocatorSuite, make_layout, make_sequence
from quire_plugins.allocators.contiguous import ContiguousAllocator, ContiguousConfig, Reserve
from quire_plugins.allocators.free_runs import FreeRuns
from quire_plugins.eviction.lru import Lru, LruConfig


class TestReserveMaxTokens(AllocatorSuite):
    def make(self, layout: KVLayout) -> KVAllocator:
        return contiguous(layout)


class TestReserveFixed(AllocatorSuite):
    def make(self, layout: KVLayout) -> KVAllocator:
        return contiguous(layout, reserve=Reserve.fixed, reserve_tokens=5)


def contiguous(
    layout: KVLayout, *, reserve: Reserve = Reserve.max_tokens, reserve_tokens: int = 1
) -> ContiguousAllocator:
    config = ContiguousConfig(reserve=reserve, reserve_tokens=reserve_tokens)
    return ContiguousAllocator(config=config, layout=layout, eviction=Lru(config=LruConfig()))


def test_prompt_and_declared_output_are_reserved_at_once() -> None:
    allocator = contiguous(make_layout(16, 20))
    seq = make_sequence(range(5), max_tokens=20).view
    assert allocator.grow(seq, 3), "the first chunk"
    assert list(allocator.table(seq, 0)) == list(range(7))
    assert list(allocator.table(seq, 1)) == list(range(7))
    stats = allocator.stats()
    assert (stats.used, stats.tokens_held) == (14, 2 * 3), "the rest is reserved and wasted so far"
    assert allocator.grow(seq, 25)
    assert list(allocator.table(seq, 0)) == list(range(7))
    assert allocator.stats().tokens_held == 2 * 25


def test_free_blocks_in_pieces_are_of_no_use() -> None:
    allocator = contiguous(make_layout(9))
    seqs = [make_sequence(range(4), order=order, max_tokens=8).view for order in range(3)]
    for seq in seqs:
        assert allocator.grow(seq, 4)
    allocator.free(seqs[0])
    allocator.free(seqs[2])
    big = make_sequence(range(10), order=3, max_tokens=6).view
    assert allocator.stats().free == 6
    assert not allocator.grow(big, 10), "6 blocks are free, but no 4 in a row"
    allocator.free(seqs[1])
    assert allocator.grow(big, 10)
    allocator.check_integrity()


def test_all_groups_or_none() -> None:
    allocator = contiguous(make_layout(8, 4))
    assert allocator.fits(16)
    assert not allocator.fits(17)
    assert allocator.grow(make_sequence(range(8), max_tokens=4).view, 8)
    assert not allocator.grow(make_sequence(range(8), order=1, max_tokens=4).view, 8)
    allocator.check_integrity()
    assert allocator.stats().used == 2 * 3


def test_fixed_grows_in_place_while_it_can() -> None:
    allocator = contiguous(make_layout(8), reserve=Reserve.fixed, reserve_tokens=2)
    first = make_sequence(range(6), max_tokens=26).view
    assert allocator.grow(first, 6)
    assert list(allocator.table(first, 0)) == [0, 1]
    assert allocator.grow(first, 9)
    assert list(allocator.table(first, 0)) == [0, 1, 2]
    second = make_sequence(range(4), order=1, max_tokens=1).view
    assert allocator.grow(second, 4)
    assert list(allocator.table(second, 0)) == [3, 4]
    assert allocator.grow(first, 12)
    assert not allocator.grow(first, 13), "the next block is another's"
    assert list(allocator.table(first, 0)) == [0, 1, 2]
    allocator.free(first)
    first._sequence.num_computed = 0
    assert not allocator.grow(first, 13), "there are 3 blocks before and 3 after the other's piece"
    allocator.free(second)
    assert allocator.grow(first, 13)
    assert list(allocator.table(first, 0)) == [0, 1, 2, 3]


def test_fixed_reserves_twice_as_much_after_every_preemption() -> None:
    allocator = contiguous(make_layout(16), reserve=Reserve.fixed, reserve_tokens=4)
    seq = make_sequence(range(8), max_tokens=30).view
    lengths = []
    for _ in range(5):
        assert allocator.grow(seq, 3), "the reserve counts from all tokens known, not from this chunk"
        lengths.append(len(allocator.table(seq, 0)))
        allocator.free(seq)
        seq._sequence.num_preemptions += 1
    assert lengths == [3, 4, 6, 10, 10], "8 + 4, 8 + 8, 8 + 16 tokens, and then all 38"


def test_fixed_reserves_no_more_than_is_declared() -> None:
    allocator = contiguous(make_layout(8), reserve=Reserve.fixed, reserve_tokens=100)
    assert allocator.grow(make_sequence(range(6), max_tokens=3).view, 6)
    assert allocator.stats().used == 3


def test_options_are_checked() -> None:
    with pytest.raises(UserError, match=r"allocator\.reserve_tokens=0"):
        ContiguousConfig(reserve_tokens=0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50), st.integers(1, 6)), max_size=40))
@settings(max_examples=200, derandomize=True, database=None, deadline=None)
def test_free_runs_against_a_map_of_bytes(operations: list[tuple[bool, int, int]]) -> None:
    runs, memory = FreeRuns(16), "." * 16
    taken: list[tuple[int, int]] = []
    for take, which, length in operations:
        if take:
            start = runs.take(length)
            first = memory.find("." * length)
            assert start == (first if first >= 0 else None)
            if start is not None:
                memory = memory[:start] + "x" * length + memory[start + length :]
                taken.append((start, length))
        elif taken:
            start, length = taken.pop(which % len(taken))
            runs.give(start, length)
            memory = memory[:start] + "." * length + memory[start + length :]
            at = which % 16
            free_from = len(memory[at:]) - len(memory[at:].lstrip("."))
            begins = at == 0 or memory[at - 1] == "x"
            assert runs.length_at(at) == (free_from if begins else 0)
        assert runs.num_free == memory.count(".")
        assert "".join("." * n for _, n in runs.runs()) == memory.replace("x", "")
