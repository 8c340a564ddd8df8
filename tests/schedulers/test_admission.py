"""orca and past_future: who enters is never put out again, where first come, first served preempts."""

import pytest
from serving import oracle, paged, request, served

from quire_plugins.allocators.contiguous import ContiguousAllocator, ContiguousConfig
from quire_plugins.eviction.lru import Lru, LruConfig
from quire_plugins.predictors.history import History, HistoryConfig
from quire_plugins.schedulers.fcfs import Fcfs, FcfsConfig
from quire_plugins.schedulers.orca import Orca, OrcaConfig
from quire_plugins.schedulers.past_future import PastFuture, PastFutureConfig


def fcfs():
    return Fcfs(config=FcfsConfig())


def orca(**options):
    return Orca(config=OrcaConfig(**options))


def past_future(predictor=None, **options):
    return PastFuture(config=PastFutureConfig(**options), predictor=predictor or oracle())


def contiguous(layout):
    return ContiguousAllocator(config=ContiguousConfig(), layout=layout, eviction=Lru(config=LruConfig()))


def decode_heavy(number: int = 40, declared: int = 80):
    """Prompts of 8 tokens whose outputs are 5 to 60 tokens long, while up to 80 are declared."""
    return [
        request(f"r{i}", at=i * 0.01, prompt=8, output=5 + 11 * i % 56, declared=declared)
        for i in range(number)
    ]


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("allocator", [None, paged, contiguous])
def test_orca_reserves_for_the_longest_and_preempts_nobody(allocator, overlap):
    requests = decode_heavy()
    outcome = served(orca(), requests, blocks=60, sequences=16, allocator=allocator, overlap=overlap)
    assert len(outcome.records) == 40
    assert outcome.preemptions == 0
    assert max(map(len, outcome.plans)) == 60 // 22  # blocks of 4 tokens; a request may become 88 long


def test_orcas_batch_is_no_larger_than_it_may_be():
    outcome = served(orca(batch_size=3), decode_heavy(), sequences=16)
    assert max(map(len, outcome.plans)) == 3


@pytest.mark.parametrize("overlap", [False, True])
def test_past_future_preempts_nobody_where_fcfs_does(overlap):
    requests = decode_heavy()
    first = served(fcfs(), requests, blocks=60, sequences=16, overlap=overlap)
    forecast = served(past_future(), requests, blocks=60, sequences=16, overlap=overlap)
    assert first.preemptions > 10
    assert forecast.preemptions == 0
    reserving = served(orca(), requests, blocks=60, sequences=16, overlap=overlap)
    assert len(forecast.plans) < 0.8 * len(reserving.plans)  # and it fills memory better than a reservation


def test_past_future_learns_lengths_from_the_past():
    """Ten times declared what outputs become: a forecast from history lets in more than one from what is
    declared, and preempts less than none at all.
    """
    requests = decode_heavy(120, declared=230)
    history = History(config=HistoryConfig(), seed=0)
    learned = served(past_future(history), requests, blocks=60, sequences=16)
    assert learned.preemptions < 0.5 * served(fcfs(), requests, blocks=60, sequences=16).preemptions
    assert len(learned.plans) < 0.6 * len(served(orca(), requests, blocks=60, sequences=16).plans)


def test_on_prefill_heavy_load_the_forecast_changes_nothing():
    requests = [request(f"r{i}", at=i * 0.01, prompt=60, output=2) for i in range(40)]
    outcomes = [served(make(), requests, blocks=100, sequences=16) for make in (fcfs, past_future)]
    assert [outcome.preemptions for outcome in outcomes] == [0, 0]
    ends = [max(r.finish for r in outcome.records.values()) for outcome in outcomes]
    assert ends[1] <= 1.05 * ends[0]
