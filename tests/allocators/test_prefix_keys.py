from hypothesis import given, settings
from hypothesis import strategies as st

from quire_plugins.allocators.prefix_keys import PrefixKeys

tokens_of_blocks = st.lists(st.integers(0, 2), min_size=12, max_size=12)


@given(tokens_of_blocks, tokens_of_blocks, st.permutations(range(4)))
@settings(max_examples=200, derandomize=True, database=None, deadline=None)
def test_keys_are_equal_where_all_tokens_so_far_are(
    left: list[int], right: list[int], asked: list[int]
) -> None:
    ours, theirs = PrefixKeys(block_size=3), PrefixKeys(block_size=3)
    for block in asked:
        same = left[: 3 * block + 3] == right[: 3 * block + 3]
        assert (ours.key(block, left) == theirs.key(3 - block, right)) == (block == 3 - block and same)
        assert (ours.key(block, left) == theirs.key(block, right)) == same


def test_keys_differ_between_blocks_and_are_made_once() -> None:
    keys = PrefixKeys(block_size=2)
    tokens = [5] * 20
    last = keys.key(9, tokens)
    assert len(set(keys.known)) == 10
    assert keys.known[9] == last
    assert keys.key(9, []) == last, "a known key needs no tokens"


def test_a_child_goes_on_from_its_parents_keys() -> None:
    parent = PrefixKeys(block_size=2)
    parent.key(2, [1, 2, 3, 4, 5, 6])
    child = PrefixKeys(block_size=2, keys=parent.known[:2])
    assert child.key(2, [1, 2, 3, 4, 7, 8]) != parent.key(2, [])
    assert child.key(3, [1, 2, 3, 4, 7, 8, 9, 9]) == PrefixKeys(block_size=2).key(3, [1, 2, 3, 4, 7, 8, 9, 9])


def test_token_ids_of_any_size_are_told_apart() -> None:
    key = {PrefixKeys(block_size=1).key(0, [token]) for token in (0, 1, 255, 256, 65536, 2**31 - 1)}
    assert len(key) == 6
