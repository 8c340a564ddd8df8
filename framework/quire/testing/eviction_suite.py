"""What every eviction policy must do, as tests that a policy's own tests inherit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quire.engine.queues import QueueView, RunningView, SequenceQueue, WaitingView
from quire.interfaces.allocator import PrefixHit
from quire.interfaces.eviction import CachedBlock, EvictionPolicy

_GROUPS = 2
_BLOCKS = 8

_operations = st.tuples(
    st.sampled_from(["release", "reuse", "evict", "evict"]),
    st.integers(0, _GROUPS - 1),
    st.integers(0, _BLOCKS - 1),
    st.integers(0, 5),
)


class EvictionSuite(ABC):
    """Inherit, and say how to make one:

    class TestMine(EvictionSuite):
        def make(self) -> EvictionPolicy:
            return Mine(config=MineConfig())
    """

    @abstractmethod
    def make(self) -> EvictionPolicy:
        """A new policy that knows no block."""

    def test_random_histories(self) -> None:
        @given(operations=st.lists(_operations, max_size=80))
        @settings(
            max_examples=100,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        def victims_are_blocks_that_may_go(operations: list[tuple[str, int, int, int]]) -> None:
            self._play(operations)

        victims_are_blocks_that_may_go()

    def test_every_block_is_given_up_in_the_end(self) -> None:
        policy = self._bound()
        for group in range(_GROUPS):
            for number in range(_BLOCKS):
                policy.add(_cached(group, number, depth=number, key=group * _BLOCKS + number))
        for group in range(_GROUPS):
            victims: list[int] = []
            for _ in range(_BLOCKS):
                victim = policy.victim(group)
                policy.remove(victim)
                victims.append(victim.block)
            assert sorted(victims) == list(range(_BLOCKS))
        assert len(policy) == 0

    def _play(self, operations: list[tuple[str, int, int, int]]) -> None:
        """Releases, reuses and evictions, beside a plain record of which blocks could be evicted."""
        policy = self._bound()
        evictable: dict[tuple[int, int], CachedBlock] = {}
        reused: dict[tuple[int, int], CachedBlock] = {}
        clock = count(1)
        for operation, group, number, depth in operations:
            place = (group, number)
            candidates = [block for block in evictable.values() if block.group == group]
            if operation == "release" and place not in evictable:
                block = reused.pop(place, None) or _cached(group, number, depth, key=next(clock))
                block.last_use = next(clock)
                evictable[place] = block
                policy.add(block)
            elif operation == "reuse" and place in evictable:
                block = evictable.pop(place)
                policy.remove(block)
                block.hits += 1
                reused[place] = block
            elif operation == "evict" and candidates:
                victim = policy.victim(group)
                assert victim in candidates, f"{victim} is none of the blocks that could be evicted"
                policy.remove(victim)
                del evictable[victim.group, victim.block]
            assert len(policy) == len(evictable)

    def _bound(self) -> EvictionPolicy:
        """A new policy that was shown queues, empty ones, as the engine does at start."""
        policy = self.make()
        queues = QueueView(waiting=WaitingView(SequenceQueue()), running=RunningView([]), now=0.0)
        policy.bind(queues, lambda seq: PrefixHit(num_tokens=0, blocks=((),) * _GROUPS))
        return policy


def _cached(group: int, block: int, depth: int, key: int) -> CachedBlock:
    return CachedBlock(group=group, block=block, key=key.to_bytes(16, "little"), depth=depth)
