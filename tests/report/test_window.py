"""Warm-up, drain and the rule for an unstable queue, by hand."""

import pytest
from recordings import sample

from quire.report.window import measured_window


def test_warm_up_is_a_fraction_of_the_time_of_arrivals_and_drain_is_what_follows():
    requests = [sample(i, arrival=2.0 + i, ttft=0.5, gaps=(1.5,)) for i in range(11)]
    window = measured_window(requests, warmup=0.2)
    assert (window.start, window.end, window.drain_s) == pytest.approx((4.0, 12.0, 2.0))
    assert [window.has(each) for each in requests] == [False] * 2 + [True] * 9
    assert window.arrivals == 9


def test_waiting_is_averaged_over_thirds():
    # one request waits from 0 to 4 of [0, 9]: all of the first third, a third of the second
    first = sample(0, arrival=0.0, token_times=[4.5], first_scheduled=4.0, finish=4.5)
    last = sample(1, arrival=9.0, token_times=[9.5], first_scheduled=9.0, finish=9.5)
    assert measured_window([first, last], warmup=0.0).waiting == pytest.approx((1.0, 1 / 3, 0.0))


def test_preempted_requests_wait_too():
    first = sample(
        0,
        arrival=0.0,
        first_scheduled=0.0,
        token_times=[1.0, 8.0],
        preempted=[3.0],
        resumed=[6.0],
        finish=8.0,
    )
    last = sample(1, arrival=9.0, token_times=[9.5], first_scheduled=9.0, finish=9.5)
    assert measured_window([first, last], warmup=0.0).waiting == pytest.approx((0.0, 1.0, 0.0))


@pytest.mark.parametrize(("service", "unstable"), [(0.9, False), (1.0, False), (1.5, True)])
def test_a_queue_grows_if_requests_come_faster_than_they_are_served(service, unstable):
    """One arrives each second, and one at a time is served."""
    requests = [
        sample(
            i,
            arrival=float(i),
            first_scheduled=max(i, service * i),
            token_times=[max(i, service * i) + service],
            finish=max(i, service * i) + service,
        )
        for i in range(60)
    ]
    assert measured_window(requests, warmup=0.1).unstable is unstable


def test_where_all_arrive_at_once_there_is_no_warm_up_and_nothing_to_grow():
    window = measured_window([sample(i) for i in range(50)], warmup=0.5)
    assert window.has(sample(0))
    assert not window.unstable
