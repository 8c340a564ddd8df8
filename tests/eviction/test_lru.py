from quire.interfaces import CachedBlock, EvictionPolicy
from quire.testing import EvictionSuite
from quire_plugins.eviction.lru import Lru, LruConfig


class TestLru(EvictionSuite):
    def make(self) -> EvictionPolicy:
        return Lru(config=LruConfig())


def test_the_longest_unused_goes_first_in_each_group() -> None:
    policy = Lru(config=LruConfig())
    blocks = {
        (group, block): CachedBlock(group=group, block=block, key=bytes([group, block]), depth=0)
        for block in (4, 2, 3)
        for group in (0, 1)
    }
    for block in blocks.values():
        policy.add(block)
    reused = blocks[0, 4]
    policy.remove(reused)
    policy.add(reused)
    assert [_evict(policy, 0) for _ in range(3)] == [2, 3, 4]
    assert [_evict(policy, 1) for _ in range(3)] == [4, 2, 3]


def _evict(policy: Lru, group: int) -> int:
    victim = policy.victim(group)
    policy.remove(victim)
    return victim.block
