"""All streams share a limit to pieces a second."""

import math

import pytest

from quire.clock import VirtualClock
from quire.server import limits
from quire.server.limits import EngineLimits
from quire.server.throttle import Throttle


def test_few_streams_get_every_token_and_many_share_the_rate():
    clock = VirtualClock()
    throttle = Throttle(clock=clock, rate=10.0)
    assert throttle.lets(20), "nothing has gone so far"
    clock.advance(1.9)
    assert not throttle.lets(20)
    clock.advance(0.1)
    assert throttle.lets(20)
    assert not throttle.lets(1)
    clock.advance(0.1)
    assert throttle.lets(1)


def test_what_was_refused_does_not_count():
    clock = VirtualClock()
    throttle = Throttle(clock=clock, rate=1.0)
    assert throttle.lets(1)
    for _ in range(3):
        clock.advance(0.25)
        assert not throttle.lets(1)
    clock.advance(0.25)
    assert throttle.lets(1)


def test_at_infinity_all_go():
    throttle = Throttle(clock=VirtualClock(), rate=math.inf)
    assert all(throttle.lets(10**6) for _ in range(5))


@pytest.mark.parametrize("cpus", [1, 2, 16])
def test_the_default_rate_grows_with_the_machine(monkeypatch, cpus):
    monkeypatch.setattr(limits, "cpu_threads", lambda: cpus)
    assert EngineLimits().pieces_per_second() == 500 * cpus


def test_a_rate_that_was_set_is_taken_as_it_is():
    assert EngineLimits(stream_pieces_per_second=7.0).pieces_per_second() == 7.0
