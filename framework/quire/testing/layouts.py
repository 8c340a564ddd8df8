"""KV layouts for tests, by hand and as a Hypothesis strategy."""

from __future__ import annotations

from hypothesis import strategies as st

from quire.interfaces.allocator import KVGroup, KVLayout


def make_layout(
    *num_blocks: int,
    block_size: int = 4,
    windows: tuple[int | None, ...] | None = None,
    max_tokens: int = 1000,
    max_step_tokens: int | None = None,
    host_blocks: tuple[int, ...] = (),
) -> KVLayout:
    """A layout of one group per number of blocks; without `windows` every group sees all."""
    return KVLayout(
        groups=tuple(
            KVGroup(layers=(layer,), kv_heads=1, head_dim=8, window=window)
            for layer, window in enumerate(windows or (None,) * len(num_blocks))
        ),
        block_size=block_size,
        num_blocks=num_blocks,
        max_tokens=max_tokens,
        max_step_tokens=max_step_tokens,
        host_blocks=host_blocks,
    )


@st.composite
def kv_layouts(draw: st.DrawFn, *, min_tokens: int = 8, max_tokens: int = 48, host: bool = False) -> KVLayout:
    """One to three KV groups with and without windows, blocks of 1 to 4 tokens, and room for so few tokens in
    each group that everything collides; with `host`, most have host memory too, up to as much.
    """
    num_groups = draw(st.integers(1, 3))
    block_size = draw(st.integers(1, 4))
    windows = draw(
        st.lists(st.none() | st.integers(1, 9), min_size=num_groups, max_size=num_groups, unique=True)
    )
    tokens = draw(st.lists(st.integers(min_tokens, max_tokens), min_size=num_groups, max_size=num_groups))
    quarters = draw(st.sampled_from([0, 1, 2, 4])) if host else 0
    return make_layout(
        *(-(-number // block_size) for number in tokens),
        host_blocks=tuple(-(-number * quarters // (4 * block_size)) for number in tokens) if quarters else (),
        block_size=block_size,
        windows=tuple(windows),
        max_step_tokens=draw(st.none() | st.integers(1, 12)),
    )
