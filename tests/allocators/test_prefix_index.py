from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from quire.testing import make_layout
from quire_plugins.allocators.block_pool import BlockPool
from quire_plugins.allocators.index_log import IndexLog
from quire_plugins.allocators.prefix_index import PrefixIndex, Search
from quire_plugins.allocators.prefix_keys import PrefixKeys
from quire_plugins.eviction.lru import Lru, LruConfig

SIZE, BLOCKS = 2, 10
TOKENS = tuple(range(SIZE * BLOCKS))


@given(
    windows=st.lists(st.none() | st.integers(1, 9), min_size=1, max_size=4),
    missing=st.lists(st.sets(st.integers(0, BLOCKS - 1), max_size=3), min_size=4, max_size=4),
    limit=st.integers(0, BLOCKS),
)
@settings(max_examples=500, derandomize=True, database=None, deadline=None)
def test_the_longest_prefix_of_which_no_group_lacks_what_the_next_query_sees(
    windows: list[int | None], missing: list[set[int]], limit: int
) -> None:
    """Groups that hold a prefix with holes, against trying every length."""
    layout = make_layout(*[BLOCKS] * len(windows), block_size=SIZE, windows=tuple(windows))
    log, eviction = IndexLog(), Lru(config=LruConfig())
    keys = PrefixKeys(block_size=SIZE)
    pools = []
    for group in range(len(windows)):
        pool = BlockPool(group=group, num_blocks=BLOCKS, eviction=eviction, releases=count(), log=log)
        for depth in range(BLOCKS):
            if depth not in missing[group]:
                pool.publish(pool.take(), keys.key(depth, TOKENS), depth, None)
        pools.append(pool)

    def served(end: int) -> bool:
        return all(
            position // SIZE not in missing[group]
            for group, window in enumerate(windows)
            for position in range(end * SIZE)
            if window is None or position > end * SIZE - window
        )

    index = PrefixIndex(layout=layout, pools=pools, host=None, log=log)
    search = Search(keys=PrefixKeys(block_size=SIZE), hit=index.no_hit)
    hit = index.longest(search, TOKENS, limit)
    assert hit.num_tokens == SIZE * max(end for end in range(limit + 1) if served(end))
    assert all(len(table) == hit.num_tokens // SIZE for table in hit.blocks)


def test_a_search_may_be_asked_for_less() -> None:
    log, keys = IndexLog(), PrefixKeys(block_size=SIZE)
    pool = BlockPool(group=0, num_blocks=8, eviction=Lru(config=LruConfig()), releases=count(), log=log)
    for depth in range(8):
        pool.publish(pool.take(), keys.key(depth, TOKENS), depth, None)
    index = PrefixIndex(layout=make_layout(8, block_size=SIZE), pools=[pool], host=None, log=log)
    search = Search(keys=PrefixKeys(block_size=SIZE), hit=index.no_hit)
    hits = [index.longest(search, TOKENS, limit) for limit in (8, 3, 0, 5, 8)]
    assert [hit.num_tokens for hit in hits] == [16, 6, 0, 10, 16]
    assert [len(hit.blocks[0]) for hit in hits] == [8, 3, 0, 5, 8]
