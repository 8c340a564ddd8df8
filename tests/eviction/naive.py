"""What each policy says, played plainly over lists; and the histories that both play."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from hypothesis import strategies as st

from quire.interfaces import CachedBlock, EvictionPolicy

BLOCKS = 6

histories = st.lists(
    st.tuples(
        st.sampled_from(["release", "release", "reuse", "evict"]),
        st.integers(0, BLOCKS - 1),
        st.integers(0, 9),
        st.integers(0, 3),
    ),
    max_size=60,
)
"""Operation, block, content, depth."""


@dataclass
class Record:
    """All that happened, as an oracle may look at it."""

    evictable: list[CachedBlock] = field(default_factory=list)
    """In the order in which they came."""
    evicted: list[CachedBlock] = field(default_factory=list)
    """In that order, each with the content that it held."""


def play(
    policy: EvictionPolicy, history, *, on_add: Callable, on_evict: Callable, expected: Callable
) -> None:
    """Play `history` to `policy`; `expected(record)` is the block that it must give up next."""
    record, used, clock = Record(), {}, count(1)
    for operation, number, content, depth in history:
        found = next((block for block in record.evictable if block.block == number), None)
        if operation == "release" and found is None:
            keys = {block.key for block in [*record.evictable, *used.values()]}
            block = used.pop(number, None)
            if block is None:
                key = bytes([content])
                if key in keys:
                    continue
                parent = bytes([content - 1]) if depth and content else None
                block = CachedBlock(group=0, block=number, key=key, depth=depth, parent=parent)
            block.last_use = next(clock)
            on_add(record, block)
            record.evictable.append(block)
            policy.add(block)
        elif operation == "reuse" and found is not None:
            record.evictable.remove(found)
            policy.remove(found)
            found.hits += 1
            used[number] = found
        elif operation == "evict" and record.evictable:
            want = expected(record)
            victim = policy.victim(0)
            assert victim is want, f"gave up {victim}, not {want}"
            on_evict(record, victim)
            record.evictable.remove(victim)
            record.evicted.append(victim)
            policy.remove(victim)
        assert len(policy) == len(record.evictable)
