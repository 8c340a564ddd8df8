"""How many blocks of KV memory a budget of bytes buys."""

from __future__ import annotations

from quire.errors import UserError
from quire.interfaces.allocator import KVGroup, KVLayout


def plan_layout(
    groups: tuple[KVGroup, ...],
    *,
    block_size: int,
    block_bytes: tuple[int, ...],
    kv_bytes: int,
    max_tokens: int,
    max_sequences: int,
    max_step_tokens: int,
    releases_windows: bool,
    host_bytes: int = 0,
    takes_all: bool = False,
) -> KVLayout:
    """Split `kv_bytes` among the groups.

    Every group gets as many blocks as the others, except that a group needs no more than would hold
    `max_sequences` sequences of `max_tokens` tokens, or, with a window that the allocator releases, their
    windows and one step's growth. With `takes_all` only such windows are a limit: what no sequence needs
    keeps prefixes of sequences that have ended.
    What a capped group leaves goes to the others. Raises UserError if a group would get less than 2 blocks.

    `host_bytes` of host memory are split as the device's are, so that each group can keep the same part of
    its blocks there.
    """
    caps = [
        kv_bytes
        if takes_all and not (releases_windows and group.window is not None)
        else _most_blocks(
            group.window if releases_windows else None, block_size, max_tokens, max_sequences, max_step_tokens
        )
        for group in groups
    ]
    num_blocks = [0] * len(groups)
    left, open_groups = kv_bytes, set(range(len(groups)))
    while open_groups:
        share = left // sum(block_bytes[g] for g in open_groups)
        capped = {g for g in open_groups if caps[g] <= share}
        if not capped:
            for g in open_groups:
                num_blocks[g] = share
            break
        for g in capped:
            num_blocks[g] = caps[g]
            left -= caps[g] * block_bytes[g]
        open_groups -= capped
    if min(num_blocks) < 2:
        raise UserError(
            f"engine.kv_bytes={kv_bytes}: too little for 2 blocks of {block_size} tokens in each KV group; "
            f"at least {2 * sum(block_bytes)} bytes are needed"
        )
    host_blocks: tuple[int, ...] = ()
    if host_bytes:
        kv_bytes = sum(n * size for n, size in zip(num_blocks, block_bytes, strict=True))
        host_blocks = tuple(n * host_bytes // kv_bytes for n in num_blocks)
        if min(host_blocks) < 1:
            needed = max(-(-kv_bytes // n) for n in num_blocks)
            raise UserError(
                f"allocator.host_bytes={host_bytes}: too little for a block of each KV group; "
                f"at least {needed} bytes are needed"
            )
    return KVLayout(
        groups=groups,
        block_size=block_size,
        num_blocks=tuple(num_blocks),
        max_tokens=max_tokens,
        max_step_tokens=max_step_tokens,
        host_blocks=host_blocks,
    )


def _most_blocks(
    window: int | None, block_size: int, max_tokens: int, max_sequences: int, max_step_tokens: int
) -> int:
    def blocks(tokens: int) -> int:
        return -(-tokens // block_size)

    most = max_sequences * blocks(max_tokens)
    if window is not None:
        # A window that starts inside a block needs one block more; the tokens of a step are held on top.
        most = min(most, max_sequences * (blocks(window) + 2) + blocks(max_step_tokens))
    return max(2, most)
