"""vtc and dlpm: what tenants get, against the bounds that are proven."""

import pytest
from serving import paged, request, served

from quire.errors import UserError
from quire_plugins.schedulers.dlpm import Dlpm, DlpmConfig
from quire_plugins.schedulers.fcfs import Fcfs, FcfsConfig
from quire_plugins.schedulers.vtc import Vtc, VtcConfig

INPUT, OUTPUT, BLOCKS = 16, 16, 24
MEMORY = BLOCKS * 4
BOUND = 2 * max(1.0 * INPUT, 2.0 * MEMORY)
"""Theorem 4.4 of the paper: 2 max(w_p L_input, w_q M)."""


def vtc(**options):
    return Vtc(config=VtcConfig(**options))


def dlpm(**options):
    return Dlpm(config=DlpmConfig(**options))


def fcfs():
    return Fcfs(config=FcfsConfig())


def tenant(name: str, number: int, *, every: float, start: float = 0.0, **attributes):
    return [
        request(f"{name}{i}", at=start + i * every, prompt=INPUT, output=OUTPUT, tenant=name, **attributes)
        for i in range(number)
    ]


def merged(*streams):
    return sorted((each for stream in streams for each in stream), key=lambda each: each.arrival_time)


def spread(outcome, *, weights=None, since: float = 0.0) -> float:
    """The largest difference, over all intervals in which both tenants have requests that wait, between the
    service that one got in it and that of the other.
    """
    events = []
    last_start: dict[str, float] = {}
    for record in outcome.records.values():
        share = (weights or {}).get(record.tenant, 1.0)
        sign = (1 if record.tenant == "light" else -1) / share
        events.append((record.first_scheduled, sign * 1.0 * record.num_prompt_tokens))
        events += [(time, sign * 2.0) for time in record.token_times]
        last_start[record.tenant] = max(last_start.get(record.tenant, 0.0), record.first_scheduled)
    until = min(last_start.values())
    difference = lowest = highest = 0.0
    for time, service in sorted(events):
        if since <= time <= until:
            difference += service
            lowest, highest = min(lowest, difference), max(highest, difference)
    return highest - lowest


def two_tenants():
    """The paper's overload (section 5.2): both send more than their share, one twice as much."""
    return merged(tenant("light", 100, every=0.04), tenant("heavy", 200, every=0.02))


@pytest.mark.parametrize("overlap", [False, True])
def test_the_service_of_two_tenants_stays_within_the_proven_bound(overlap):
    outcome = served(vtc(), two_tenants(), blocks=BLOCKS, overlap=overlap)
    assert len(outcome.records) == 300
    assert spread(outcome) <= BOUND
    assert spread(served(fcfs(), two_tenants(), blocks=BLOCKS, overlap=overlap)) > 2 * BOUND


def test_weights_divide_the_service():
    weights = {"light": 1.0, "heavy": 2.0}
    requests = merged(tenant("light", 150, every=0.02), tenant("heavy", 150, every=0.02))
    outcome = served(vtc(weights=weights), requests, blocks=BLOCKS)
    assert spread(outcome, weights=weights) <= BOUND
    assert spread(outcome) > BOUND


def test_who_was_away_saved_nothing_up():
    """After a long pause of one tenant both get alike; the one that went on is not made to wait."""
    requests = merged(tenant("heavy", 200, every=0.02), tenant("light", 60, every=0.0, start=5.0))
    outcome = served(vtc(), requests, blocks=BLOCKS)
    assert spread(outcome, since=5.0) <= BOUND


def test_it_is_work_conserving():
    """A tenant alone gets all there is, and many get no less together."""
    alone = tenant("heavy", 60, every=0.02)
    assert served(vtc(), alone, blocks=BLOCKS).plans == served(fcfs(), alone, blocks=BLOCKS).plans
    ends = [
        max(record.finish for record in served(make(), two_tenants(), blocks=BLOCKS).records.values())
        for make in (vtc, fcfs)
    ]
    assert ends[0] <= 1.01 * ends[1]


def with_prefixes(name: str, number: int, *, every: float):
    """Requests of a tenant, each with one of three prefixes of the tenant's own."""
    letters = {"light": (1, 2, 3), "heavy": (4, 5, 6)}[name]
    return [
        request(
            f"{name}{i}",
            at=i * every,
            output=8,
            tenant=name,
            tokens=(letters[i % 3],) * 32 + (i % 16, i // 16 % 16, 7, 7),
        )
        for i in range(number)
    ]


def test_dlpm_finds_more_prefixes_than_vtc_and_is_fairer_than_fcfs():
    requests = merged(with_prefixes("light", 100, every=0.02), with_prefixes("heavy", 300, every=0.004))

    def run(make):
        return served(make(), requests, blocks=30, sequences=2, allocator=paged)

    def hits(outcome):
        return sum(record.num_cached_tokens for record in outcome.records.values())

    def delay(outcome):
        """Mean time that the light tenant's requests wait for."""
        waits = [r.first_scheduled - r.arrival for r in outcome.records.values() if r.tenant == "light"]
        return sum(waits) / len(waits)

    local, fair, first = run(lambda: dlpm(quantum=500.0)), run(vtc), run(fcfs)
    assert len(local.records) == 400
    assert hits(local) > hits(fair)
    assert delay(local) < 0.5 * delay(first)


@pytest.mark.parametrize("quantum", [50.0, 500.0])
def test_dlpms_quantum_bounds_the_difference_of_service(quantum):
    """Paid in advance is at most a quantum; beyond it what runs when it is used up: a batch, and a prompt."""
    outcome = served(dlpm(quantum=quantum), two_tenants(), blocks=BLOCKS)
    assert spread(outcome) <= 2 * (quantum + 1.0 * INPUT + 2.0 * MEMORY)


@pytest.mark.parametrize("make", [vtc, dlpm])
def test_a_tenant_without_a_weight_is_refused_and_the_rest_goes_on(make):
    requests = [
        request("a", tenant="known"),
        request("b", tenant="stranger"),
        request("c", tenant="known"),
    ]
    outcome = served(make(weights={"known": 1.0}), requests)
    assert set(outcome.records) == {"a", "c"}
    expected = "request 'b': tenant='stranger': has no weight; scheduler.weights names known"
    assert outcome.errors == {"b": expected}
    assert len(served(make(), requests).records) == 3


def test_weights_that_make_no_sense_are_named():
    with pytest.raises(UserError, match=r"scheduler.weights.a=0.0: must be a finite number > 0"):
        vtc(weights={"a": 0.0})
    with pytest.raises(UserError, match=r"scheduler.quantum=-1.0"):
        dlpm(quantum=-1.0)
