"""`NewPlugin` keeps the contract of every eviction policy, and has the idea that it should have."""

from quire.cli.templates.eviction import NewPlugin, NewPluginConfig
from quire.interfaces import CachedBlock, EvictionPolicy
from quire.testing import EvictionSuite


class TestContract(EvictionSuite):
    def make(self) -> EvictionPolicy:
        return NewPlugin(config=NewPluginConfig())


def cached(block: int, *, hits: int, depth: int = 0, last_use: int = 0) -> CachedBlock:
    key = block.to_bytes(16, "little")
    return CachedBlock(group=0, block=block, key=key, depth=depth, hits=hits, last_use=last_use)


def test_fewest_hits_go_first_and_of_equals_the_least_recently_used():
    policy = NewPlugin(config=NewPluginConfig())
    for block in (cached(1, hits=2), cached(2, hits=1, last_use=9), cached(3, hits=1, last_use=4)):
        policy.add(block)
    assert policy.victim(0).block == 3


def test_depth_counts_against_hits():
    policy = NewPlugin(config=NewPluginConfig(depth_weight=0.5))
    policy.add(cached(1, hits=2))
    policy.add(cached(2, hits=3, depth=4))
    assert policy.victim(0).block == 2
