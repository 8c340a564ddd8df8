"""priority: the most urgent first, and a proven bound on how long anybody is overtaken."""

import pytest
from serving import request, served

from quire_plugins.schedulers.priority import Priority, PriorityConfig


def priority(**options):
    return Priority(config=PriorityConfig(**options))


def test_a_more_urgent_one_takes_the_place_of_one_that_runs():
    requests = [request("low", output=20, priority=3), request("high", at=0.05, priority=1)]
    eager = served(priority(), requests, sequences=1)
    assert eager.records["low"].num_preemptions == 1
    assert eager.records["high"].finish < eager.records["low"].finish
    patient = served(priority(preempt=False), requests, sequences=1)
    assert patient.preemptions == 0
    assert patient.records["low"].finish < patient.records["high"].finish


def test_nobody_gives_way_for_one_that_still_would_not_fit():
    requests = [
        request("high", output=40, prompt=8, priority=0),
        request("low", output=40, prompt=8, priority=5),
        request("middle", at=0.05, prompt=100, output=2, priority=3),
    ]
    outcome = served(priority(aging=0.0), requests, blocks=26, budget=256)
    assert outcome.records["low"].num_preemptions == 0
    assert len(outcome.records) == 3


@pytest.mark.parametrize("overlap", [False, True])
def test_with_ageing_nobody_is_overtaken_by_who_comes_later_than_the_bound(overlap):
    """(its priority - the most urgent) / aging seconds after it at most."""
    levels, aging = 5, 10.0
    urgent = [request(f"u{i}", at=i * 0.03, output=5, priority=0) for i in range(80)]
    low = request("low", at=0.011, output=30, priority=levels)
    requests = sorted([*urgent, low], key=lambda each: each.arrival_time)
    arrivals = {each.id: each.arrival_time for each in requests}
    starved = served(priority(aging=0.0), requests, sequences=1, overlap=overlap)
    assert starved.starts()[-1] == "low"
    aged = served(priority(aging=aging), requests, sequences=1, overlap=overlap)
    bound = arrivals["low"] + levels / aging
    late = [name for name, at in arrivals.items() if at > bound]
    assert len(late) > 20
    assert all(aged.records["low"].finish < aged.records[name].finish for name in late)
