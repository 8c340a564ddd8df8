"""What every KV allocator must do, as tests that an allocator's own tests inherit."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from quire.interfaces.allocator import KVAllocator, KVLayout
from quire.testing.allocator_machine import AllocatorMachine
from quire.testing.layouts import make_layout
from quire.testing.sequences import make_sequence


class AllocatorSuite(ABC):
    """Inherit, and say how to make one:

        class TestMine(AllocatorSuite):
            def make(self, layout: KVLayout) -> KVAllocator:
                return Mine(config=MineConfig(), layout=layout, eviction=Lru(config=LruConfig()))

    The histories are random but the same in every run.
    """

    histories: int = 150
    """How many random histories are tried."""
    steps: int = 40
    """How long each of them is at most."""

    has_host_memory: bool = False
    """Set it if the allocator keeps blocks in host memory where its layout has some."""

    @abstractmethod
    def make(self, layout: KVLayout) -> KVAllocator:
        """A new allocator of the memory that `layout` describes."""

    def test_random_histories(self) -> None:
        make, has_host_memory = self.make, self.has_host_memory

        class Machine(AllocatorMachine):
            def __init__(self) -> None:
                super().__init__(make, has_host_memory=has_host_memory)

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=self.histories,
                stateful_step_count=self.steps,
                derandomize=True,
                database=None,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )

    def test_empty_memory_is_free(self) -> None:
        stats = self.make(make_layout(8)).stats()
        counts = (stats.total, stats.free, stats.used, stats.cached, stats.tokens_held)
        assert counts == (8, 8, 0, 0, 0), f"8 blocks, none of them in use: {stats}"

    def test_fits_up_to_all_of_memory_and_no_further(self) -> None:
        allocator = self.make(make_layout(8))
        fitting = [tokens for tokens in range(1, 65) if allocator.fits(tokens)]
        assert fitting == list(range(1, 33)), "8 blocks of 4 tokens hold a sequence of 32 tokens, not of 33"

    def test_a_sequence_fills_all_of_memory(self) -> None:
        allocator = self.make(make_layout(8))
        seq = make_sequence(range(24), max_tokens=8).view
        assert allocator.grow(seq, 24), "24 tokens have room in 8 blocks of 4"
        assert allocator.grow(seq, 32), "32 tokens have room in 8 blocks of 4"
        table = list(allocator.table(seq, 0))
        assert sorted(block for block in table if block is not None) == list(range(8)), f"all 8 once: {table}"
        other = make_sequence(range(100, 104), order=1).view
        assert not allocator.grow(other, 4), "there is no memory left to grow into"
        allocator.free(seq)
        assert allocator.grow(other, 4), "all blocks were given back"

    def test_freeing_twice_is_freeing_once(self) -> None:
        allocator = self.make(make_layout(8))
        seq = make_sequence(range(9), max_tokens=4).view
        assert allocator.grow(seq, 9), "9 tokens have room in 8 blocks of 4"
        allocator.free(seq)
        allocator.free(seq)
        assert allocator.stats().used == 0, f"nothing is in use any more: {allocator.stats()}"
        allocator.check_integrity()
