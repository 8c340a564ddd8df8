"""The plan of KV memory lets a sequence be as long as the model allows, where the bytes suffice."""

import pytest

from quire.engine.admission import longest_sequence
from quire.engine.config import parse_bytes
from quire.errors import UserError
from quire.interfaces import KVGroup
from quire.runtime import machine
from quire.runtime.kv_size import plan_layout
from quire_plugins.allocators.contiguous import ContiguousAllocator, ContiguousConfig
from quire_plugins.allocators.paged import PagedAllocator, PagedConfig
from quire_plugins.eviction.lru import Lru, LruConfig

GROUPS = (
    KVGroup(layers=(0,), kv_heads=1, head_dim=8, window=None),
    KVGroup(layers=(1,), kv_heads=1, head_dim=8, window=512),
)


def plan(
    *,
    groups=GROUPS,
    block_size=16,
    kv_bytes=10**9,
    max_tokens=8192,
    max_sequences=1,
    releases_windows=True,
    takes_all=False,
):
    return plan_layout(
        groups,
        block_size=block_size,
        block_bytes=(1024,) * len(groups),
        kv_bytes=kv_bytes,
        max_tokens=max_tokens,
        max_sequences=max_sequences,
        max_step_tokens=256,
        releases_windows=releases_windows,
        takes_all=takes_all,
    )


@pytest.mark.parametrize("max_sequences", [1, 2, 8])
def test_a_small_group_with_a_window_does_not_shorten_sequences(max_sequences):
    layout = plan(max_sequences=max_sequences)
    whole, windowed = layout.num_blocks
    assert whole == max_sequences * 512
    assert windowed < 512  # what its window needs, and no more
    allocator = PagedAllocator(config=PagedConfig(), layout=layout, eviction=Lru(config=LruConfig()))
    assert longest_sequence(allocator, 8192) == 8192


def test_all_of_the_bytes_that_were_named_are_taken():
    """A cache of prefixes may be larger than what running sequences can fill; a released window may not."""
    whole, windowed = plan(takes_all=True).num_blocks
    assert windowed == plan().num_blocks[1]
    assert whole == (10**9 - windowed * 1024) // 1024
    assert plan(takes_all=True, releases_windows=False).num_blocks == (10**9 // 2048,) * 2


def test_plenty_of_bytes_is_never_too_little():
    (group,) = plan(groups=GROUPS[1:], block_size=1024, max_tokens=600).num_blocks
    assert group == 2


def test_too_little_is_refused_with_the_least():
    with pytest.raises(UserError, match=r"engine\.kv_bytes=4095: .* at least 4096 bytes"):
        plan(kv_bytes=4095)
    assert plan(kv_bytes=4096).num_blocks == (2, 2)


@pytest.mark.parametrize("text", ["1e400", "nan", "inf", "-1", "0", "GiB", "12 parsecs"])
def test_what_is_no_number_of_bytes_is_refused(text):
    with pytest.raises(UserError, match=r"engine\.kv_bytes=.*: must be"):
        parse_bytes(text, field="engine.kv_bytes")


def test_files_that_were_read_do_not_count_as_memory_used(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    unlimited = machine.available_bytes()
    assert unlimited > 2**20
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 100000\nactive_file 300000\ninactive_file 500000\n")
    assert machine.available_bytes() == 600000


def test_an_allocator_that_keeps_whole_sequences_gets_blocks_for_them_in_every_group():
    layout = plan(releases_windows=False)
    assert layout.num_blocks == (512, 512)
    allocator = ContiguousAllocator(
        config=ContiguousConfig(), layout=layout, eviction=Lru(config=LruConfig())
    )
    assert longest_sequence(allocator, 8192) == 8192
