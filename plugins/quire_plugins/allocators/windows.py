"""Which blocks a sliding window needs. A query at position p sees the keys p - window < j <= p."""

from __future__ import annotations


def first_visible_block(position: int, *, window: int | None, block_size: int) -> int:
    """The first block that a query at `position` sees."""
    return 0 if window is None else max(0, position - window + 1) // block_size


def first_kept_block(num_computed: int, *, window: int | None, block_size: int) -> int:
    """The first block to keep of a sequence whose next query is at `num_computed`.

    That is what a query at the last block boundary before it would see, at most one block more, so that
    another sequence may be forked off at that boundary.
    """
    boundary = max(0, num_computed - 1) // block_size * block_size
    return first_visible_block(boundary, window=window, block_size=block_size)


def most_blocks(num_tokens: int, *, window: int | None, block_size: int, max_step_tokens: int | None) -> int:
    """The most blocks of a group that a sequence of `num_tokens` tokens ever holds, however it is chunked.

    boundary - window + 1       boundary    num_computed          end of the chunk
             |<--- window - 1 --->|<-- one block -->|<--- max_step_tokens --->|
    """
    whole = -(-num_tokens // block_size)
    if window is None or max_step_tokens is None:
        return whole
    return min(whole, -(-(window - 1) // block_size) + 1 + -(-max_step_tokens // block_size))
