"""lpm: by what the prefix cache holds."""

import pytest
from serving import paged, request, served

from quire_plugins.schedulers.fcfs import Fcfs, FcfsConfig
from quire_plugins.schedulers.lpm import Lpm, LpmConfig


def lpm(**options):
    return Lpm(config=LpmConfig(**options))


def requests():
    stem = (3,) * 40
    return [
        request("warm", output=30, tokens=(*stem, 1)),
        request("none", at=0.1, tokens=(9,) * 30),
        request("little", at=0.11, tokens=(*stem[:8], 5, 6, 7, 8)),
        request("most", at=0.12, tokens=(*stem, 2, 2, 2, 2)),
        request("some", at=0.13, tokens=(*stem[:24], 1, 1, 1)),
    ]


def test_the_longest_cached_prefix_starts_first_then_who_came_first():
    order = served(lpm(), requests(), sequences=1, allocator=paged).starts()
    assert order == ["warm", "most", "some", "little", "none"]


def test_only_the_earliest_are_compared():
    order = served(lpm(window=2), requests(), sequences=1, allocator=paged).starts()
    assert order == ["warm", "little", "most", "some", "none"]


def test_ageing_brings_back_the_order_of_arrival():
    order = served(lpm(aging=1e6), requests(), sequences=1, allocator=paged).starts()
    assert order == ["warm", "none", "little", "most", "some"]


@pytest.mark.parametrize("overlap", [False, True])
def test_more_is_found_in_the_cache_than_in_order_of_arrival(overlap):
    """Eight prefixes in turn, of which memory keeps three: in order of arrival each is gone when it is
    needed."""
    workload = [
        request(f"r{i}", at=i * 0.001, output=2, tokens=(i % 8,) * 32 + (i // 8, i % 8, 5)) for i in range(96)
    ]
    hits = [
        sum(
            record.num_cached_tokens
            for record in served(
                make(), workload, blocks=30, sequences=1, allocator=paged, overlap=overlap
            ).records.values()
        )
        for make in (lpm, lambda: Fcfs(config=FcfsConfig()))
    ]
    assert hits[0] > 3 * hits[1]
