"""edf and niyama: deadlines that can be kept are kept."""

import pytest
from serving import oracle, request, served

from quire.errors import UserError
from quire_plugins.predictors.history import History, HistoryConfig
from quire_plugins.schedulers.edf import Edf, EdfConfig
from quire_plugins.schedulers.fcfs import Fcfs, FcfsConfig
from quire_plugins.schedulers.niyama import Niyama, NiyamaConfig


def edf(**options):
    return Edf(config=EdfConfig(**options))


def niyama(**options):
    return Niyama(config=NiyamaConfig(**options), predictor=oracle())


def fcfs():
    return Fcfs(config=FcfsConfig())


def missed(outcome, requests) -> list[str]:
    return [
        each.id
        for each in requests
        if each.deadline is not None and outcome.records[each.id].finish > each.deadline
    ]


def feasible():
    """About 0.21, 0.11 and 0.06 s of work for one place: possible in the order third, second, first only."""
    return [
        request("first", output=20, deadline=0.50),
        request("second", at=0.03, output=10, deadline=0.23),
        request("third", at=0.06, output=5, deadline=0.14),
        request("whenever", at=0.01, output=5),
    ]


@pytest.mark.parametrize("overlap", [False, True])
def test_edf_keeps_deadlines_that_can_be_kept(overlap):
    requests = sorted(feasible(), key=lambda each: each.arrival_time)
    outcome = served(edf(), requests, sequences=1, overlap=overlap)
    assert missed(outcome, requests) == []
    assert outcome.records["whenever"].finish == max(r.finish for r in outcome.records.values())
    assert missed(served(fcfs(), requests, sequences=1, overlap=overlap), requests) == ["second", "third"]


@pytest.mark.parametrize("make", [edf, niyama])
def test_a_deadline_in_the_past_is_refused_and_the_rest_goes_on(make):
    requests = [
        request("a", deadline=5.0),
        request("late", at=1.0, deadline=0.5),
        request("b", at=1.0, deadline=9.0),
    ]
    outcome = served(make(), requests)
    assert set(outcome.records) == {"a", "b"}
    assert outcome.errors["late"].startswith("request 'late': deadline=0.5: has passed")
    assert len(served(fcfs(), requests).records) == 3  # who does not look at deadlines does not mind


def test_niyama_computes_as_much_prefill_as_the_decodes_can_bear():
    """A chat at 12 ms a token, of which a step takes 10, beside prompts of 1,000 tokens, each 0.1 s in one
    piece."""
    ttft, tbt = 0.03, 0.012
    warm = [request(f"w{i}", at=0.05 * i, prompt=10 + 60 * i, output=3, tenant="bulk") for i in range(6)]
    bulk = [request(f"b{i}", at=1.2 + 0.1 * i, prompt=1000, output=2, tenant="bulk") for i in range(4)]
    requests = [*warm, request("chat", at=1.0, output=150, tenant="chat"), *bulk]

    def latest(outcome) -> float:
        """By how much the latest token of the chat comes after it was promised."""
        times = enumerate(outcome.records["chat"].token_times)
        return max(time - (1.0 + ttft + index * tbt) for index, time in times)

    outcome = served(niyama(tiers={"chat": [ttft, tbt]}, min_chunk=8), requests, budget=2048)
    assert len(outcome.records) == 11
    assert latest(outcome) <= 0.001
    assert outcome.records["b1"].finish < outcome.records["chat"].finish  # the prompts were not put off
    assert latest(served(fcfs(), requests, budget=2048)) > 0.1


def overload(load: float):
    """Requests of about 0.11 s of work each, due 0.5 s after they come."""
    gap = 0.11 / load
    return [request(f"r{i}", at=gap * i, output=10, deadline=gap * i + 0.5) for i in range(120)]


def test_niyama_keeps_most_deadlines_where_there_are_too_many():
    """Earliest deadline first finishes everybody a little too late; who relegates some saves the others."""
    requests = overload(1.3)
    late = missed(served(edf(), requests, sequences=1), requests)
    saved = missed(served(niyama(alpha=0.0), requests, sequences=1), requests)
    assert len(late) > 80
    assert len(saved) < 0.5 * len(late)
    kept = overload(0.6)
    assert missed(served(niyama(), kept, sequences=1), kept) == []
    assert missed(served(edf(), kept, sequences=1), kept) == []


def test_promises_that_make_no_sense_are_named():
    with pytest.raises(UserError, match=r"scheduler.tiers.chat.tbt=0.0"):
        NiyamaConfig(tiers={"chat": [1.0, 0.0]})
    with pytest.raises(UserError, match=r"scheduler.tiers.chat=\[1.0\]: must be \[ttft, tbt\]"):
        NiyamaConfig(tiers={"chat": [1.0]})


def test_niyama_puts_nobody_off_who_is_late_only_if_its_output_is_long():
    """Of the outputs so far a fifth take 1 s, which would be too late, the others 0.06 s, which is not."""
    warm = [request(f"w{i}", at=1.2 * i, output=100 if i % 5 == 4 else 5) for i in range(10)]
    others = [request(f"o{i}", at=20.0, output=5, deadline=28.0) for i in range(8)]
    requests = [*warm, *others, request("strict", at=20.001, output=5, deadline=20.35)]
    policy = Niyama(config=NiyamaConfig(), predictor=History(config=HistoryConfig(), seed=0))
    assert not missed(served(policy, requests, sequences=1), requests)
