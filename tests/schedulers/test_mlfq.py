"""mlfq: short outputs need not be known to be short, and long ones do not starve."""

from itertools import pairwise

import pytest
from serving import request, served

from quire.errors import UserError
from quire_plugins.schedulers.fcfs import Fcfs, FcfsConfig
from quire_plugins.schedulers.mlfq import Mlfq, MlfqConfig


def mlfq(**options):
    return Mlfq(config=MlfqConfig(**options))


def test_a_short_output_passes_a_long_one_that_has_used_up_its_quantum():
    requests = [request("long", output=40), request("short", at=0.2, output=3)]
    queue = served(mlfq(), requests, sequences=1)
    assert queue.records["short"].finish < queue.records["long"].finish
    assert queue.records["long"].num_preemptions == 1
    within = [request("long", output=40), request("short", at=0.02, output=3)]
    patient = served(mlfq(quantum=1.0), within, sequences=1)
    assert patient.preemptions == 0  # its quantum lasts, and who came first goes first


def test_a_long_prompt_skips_the_levels_on_which_it_could_produce_nothing():
    """Its prefill of some 60 ms takes the third level; others of the first go before it."""
    warm = [request(f"w{i}", at=0.1 * i, prompt=8 + 40 * i, output=2) for i in range(6)]
    rest = [
        request("running", at=2.0, output=12),
        request("heavy", at=2.01, prompt=500, output=2),
        request("light", at=2.02, prompt=8, output=2),
    ]
    order = served(mlfq(quantum=0.02), warm + rest, sequences=1).starts()
    assert order.index("light") < order.index("heavy")
    # Were it to join the first level it would go before who came later.
    order = served(mlfq(quantum=10.0), warm + rest, sequences=1).starts()
    assert order.index("heavy") < order.index("light")


def longest_wait(outcome, name: str) -> float:
    record = outcome.records[name]
    times = [record.arrival, *record.token_times]
    return max(after - before for before, after in pairwise(times))


@pytest.mark.parametrize("overlap", [False, True])
def test_ageing_bounds_how_long_anybody_has_nothing(overlap):
    """With more short ones than can be served, a long output is without a step for the limit at most, and
    for as long as those take that are on the first level when it comes back: all that came too much, at most.
    """
    shorts = [request(f"s{i}", at=i * 0.045, output=5) for i in range(200)]
    requests = sorted([*shorts, request("long", at=0.02, output=100)], key=lambda each: each.arrival_time)
    starved = served(mlfq(quantum=0.06, promote_after=0.0), requests, sequences=1, overlap=overlap)
    aged = served(mlfq(quantum=0.06, promote_after=0.5), requests, sequences=1, overlap=overlap)
    bound = 0.5 + (200 * 0.052 + 100 * 0.0105 - 200 * 0.045)
    assert longest_wait(aged, "long") <= bound
    assert longest_wait(starved, "long") > 2 * bound


def test_mean_completion_lies_below_fcfs_where_lengths_differ_much():
    requests = [request(f"r{i}", at=i * 0.05, output=100 if i % 10 == 0 else 4) for i in range(100)]
    first = served(Fcfs(config=FcfsConfig()), requests, sequences=2)
    queue = served(mlfq(), requests, sequences=2)
    assert queue.mean_completion() < 0.8 * first.mean_completion()


def test_options_that_make_no_sense_are_named():
    with pytest.raises(UserError, match=r"scheduler.ratio=0.5"):
        MlfqConfig(ratio=0.5)
    with pytest.raises(UserError, match=r"scheduler.levels=0"):
        MlfqConfig(levels=0)
