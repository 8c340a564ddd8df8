"""Synthetic requests that depend on each other: users in a closed loop, conversations, shared beginnings."""

from collections import Counter

import pytest

from quire.config.compose import compose
from quire.engine.sequence import FinishReason
from quire.errors import UserError
from quire.interfaces.workload import WorkloadContext
from quire_plugins.workloads.limits import TooLong
from quire_plugins.workloads.synthetic import SyntheticWorkload
from quire_plugins.workloads.synthetic_config import Arrivals, Lengths, SyntheticConfig
from quire_plugins.workloads.tenants import Tenant

SMALL = {"prompt_mean": 40.0, "output_mean": 10.0, "output_cap": 30}


def make(*, longest=2048, seed=0, **options):
    workload = SyntheticWorkload(config=SyntheticConfig(**options))
    context = WorkloadContext(seed=seed, vocab_size=1000, max_model_tokens=longest, tokenizer=None)
    return workload, list(workload.requests(context))


def serve(workload, requests, *, seconds=1.0, fail=()) -> list:
    """All requests in order of arrival, each answered by its own token after so many seconds."""
    served = []
    while requests:
        requests.sort(key=lambda r: r.arrival_time)
        request = requests.pop(0)
        served.append(request)
        failed = request.id in fail
        answer = () if failed else (len(served) % 1000,) * request.forced_output_tokens
        reason = FinishReason.ERROR if failed else FinishReason.LENGTH
        requests += workload.on_end(request, answer, reason, request.arrival_time + seconds)
    return served


def test_a_turn_repeats_all_that_was_said_and_follows_the_answer():
    workload, requests = make(requests=60, turns=3.0, think=2.0, rate=1.0, longest=4096, **SMALL)
    assert workload.reacts
    served = serve(workload, requests)
    assert len(served) == len(workload) == 60
    last = {}
    for position, request in enumerate(served, 1):
        conversation, _, turn = request.id.partition(".")
        assert request.session == conversation
        if int(turn):
            before, place = last[conversation]
            answer = (place % 1000,) * before.forced_output_tokens
            said = before.prompt_token_ids + answer
            assert request.prompt_token_ids[: len(said)] == said
            assert len(request.prompt_token_ids) > len(said)
            assert request.arrival_time >= before.arrival_time + 1.0
        last[conversation] = (request, position)
    turns = Counter(request.session for request in served)
    assert 10 < len(turns) < 40  # 20 conversations of 3 turns on average
    assert max(turns.values()) >= 5


def test_thinking_takes_its_mean_time():
    workload, requests = make(requests=2000, turns=4.0, think=2.0, rate=5.0, longest=100_000, **SMALL)
    ends, pauses = {}, []
    for request in serve(workload, requests):
        if request.session in ends:
            pauses.append(request.arrival_time - ends[request.session])
        ends[request.session] = request.arrival_time + 1.0
    assert sum(pauses) / len(pauses) == pytest.approx(2.0, rel=0.1)


def test_what_follows_does_not_depend_on_who_is_served_first():
    options = {"requests": 40, "turns": 3.0, "rate": 4.0, "think": 1.0, **SMALL}
    slow = {r.id: r for r in serve(*make(**options), seconds=9.0)}
    fast = {r.id: r for r in serve(*make(**options), seconds=0.1)}
    assert slow.keys() == fast.keys()
    for id, request in slow.items():
        assert len(request.prompt_token_ids) == len(fast[id].prompt_token_ids)
        assert request.forced_output_tokens == fast[id].forced_output_tokens


def test_a_failed_turn_ends_its_conversation_and_is_counted():
    options = {"requests": 30, "turns": 5.0, **SMALL}
    turns = Counter(r.session for r in serve(*make(**options)))
    session, count = turns.most_common(1)[0]
    workload, requests = make(**options)
    served = serve(workload, requests, fail={f"{session}.0"})
    assert len(served) == 30 - (count - 1)
    assert workload.notes()["turns_after_a_failure_left_out"] == count - 1


def test_a_conversation_ends_where_it_grows_too_long():
    options = {"requests": 50, "turns": 20.0, "prompt_mean": 30.0, "prompt_cap": 60, "output_cap": 20}
    workload, requests = make(longest=200, **options)
    served = serve(workload, requests)
    left_out = workload.notes()["left_out_as_too_long"]
    assert left_out > 0
    assert len(served) + left_out == 50
    assert all(len(r.prompt_token_ids) + r.forced_output_tokens <= 200 for r in served)
    with pytest.raises(UserError, match=r"too_long=refuse: request \d+\.\d+ has"):
        make(longest=200, too_long=TooLong.refuse, **options)


def test_in_a_closed_loop_each_user_waits_for_an_answer():
    workload, requests = make(requests=20, arrivals=Arrivals.closed, concurrency=4, **SMALL)
    assert [r.arrival_time for r in requests] == [0.0] * 4
    served = serve(workload, requests, seconds=2.0)
    assert len(served) == 20
    assert Counter(r.arrival_time for r in served) == {2.0 * k: 4 for k in range(5)}


def test_a_user_goes_on_after_a_failure():
    workload, requests = make(requests=6, arrivals=Arrivals.closed, concurrency=2, **SMALL)
    served = serve(workload, requests, fail={"synthetic-0"})
    assert len(served) == 6


def test_system_prompts_and_documents_are_shared_by_their_popularity():
    _, made = make(
        requests=400,
        shared_prefix=16,
        prefixes=4,
        documents=10,
        document_tokens=32,
        documents_each=2,
        prompt_mean=200.0,
        prompt_sigma=0.2,
    )
    systems = Counter(r.prompt_token_ids[:16] for r in made)
    assert len(systems) == 4
    counts = sorted(systems.values(), reverse=True)
    assert counts[0] / 400 == pytest.approx(12 / 25, abs=0.08)  # 1 / (1 + 1/2 + 1/3 + 1/4)
    documents = [r.prompt_token_ids[start : start + 32] for r in made for start in (16, 48)]
    assert len(set(documents)) == 10
    assert all(r.prompt_token_ids[16:48] != r.prompt_token_ids[48:80] for r in made)
    assert len({r.prompt_token_ids[80:] for r in made}) == 400


def test_tenants_have_shares_priorities_and_deadlines():
    tenants = {"free": {"weight": 3.0, "priority": 5}, "paid": {"weight": 1.0, "deadline": 2.5}}
    _, made = make(requests=800, rate=4.0, tenants=tenants)
    shares = Counter(r.tenant for r in made)
    assert shares["free"] / 800 == pytest.approx(0.75, abs=0.06)
    for request in made:
        if request.tenant == "free":
            assert (request.priority, request.deadline) == (5, None)
        else:
            assert request.priority == 0
            assert request.deadline == pytest.approx(request.arrival_time + 2.5)


def test_lengths_may_be_those_of_a_trace_or_of_knots():
    _, made = make(requests=300, lengths=Lengths.azure_code, longest=8192)
    prompts = sorted(len(r.prompt_token_ids) for r in made)
    assert prompts[150] == pytest.approx(1469, rel=0.3)
    assert {r.sampling.max_tokens + len(r.prompt_token_ids) for r in made} == {8192}
    _, made = make(
        requests=300, lengths=Lengths.knots, prompt_knots=[10, 20, 20], output_knots=[5, 5, 6], output_cap=5
    )
    assert {len(r.prompt_token_ids) for r in made} == set(range(10, 21))
    assert {r.forced_output_tokens for r in made} == {5}


@pytest.mark.parametrize("arrivals", [Arrivals.gamma, Arrivals.weibull, Arrivals.on_off, Arrivals.diurnal])
def test_every_process_of_arrivals_is_its_own(arrivals):
    _, made = make(requests=50, rate=2.0, arrivals=arrivals)
    times = [r.arrival_time for r in made]
    assert times != [r.arrival_time for r in make(requests=50, rate=2.0)[1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"arrivals": Arrivals.closed, "rate": 1.0},
            r"workload\.rate=1\.0: must be null where arrivals=closed",
        ),
        ({"cv": 0.0}, r"workload\.cv=0\.0"),
        ({"turns": 0.5}, r"workload\.turns=0\.5: must be a number >= 1"),
        ({"think": -1.0}, r"workload\.think=-1\.0"),
        ({"documents": 1, "documents_each": 2}, r"workload\.documents_each=2: must be at most"),
        ({"lengths": Lengths.knots}, r"workload\.prompt_knots=\[\]: must be at least 2 lengths"),
        (
            {"lengths": Lengths.knots, "prompt_knots": [1, 2], "output_knots": [1, 2, 3]},
            r"workload\.output_knots=\[1, 2, 3\]: must be as many as prompt_knots",
        ),
        (
            {"tenants": {"a": {"weight": 0.0}}},
            r"workload\.tenants\.a\.weight=0\.0: must be a finite number",
        ),
        (
            {"tenants": {"a": {"weigth": 1.0}}},
            r"workload\.tenants\.a\.weigth: a tenant has no such option \(did you mean 'weight'\?\)",
        ),
        ({"tenants": {"a": {"priority": 0.5}}}, r"workload\.tenants\.a\.priority=0\.5: must be an integer"),
        ({"correlation": 1.0}, r"workload\.correlation=1\.0"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(UserError, match=message):
        SyntheticConfig(**options)


def test_tenants_are_set_on_the_command_line():
    config = compose(
        ["workload=synthetic", "+workload.tenants.free.weight=3", "+workload.tenants.paid={deadline: 2.5}"]
    )
    assert config.workload.tenant_classes() == {"free": Tenant(weight=3), "paid": Tenant(deadline=2.5)}
