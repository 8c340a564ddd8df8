"""Arrival processes against their textbook rate and variation."""

import math
from itertools import islice, pairwise
from statistics import fmean, pstdev

import pytest

from quire_plugins.workloads.arrivals import (
    diurnal_arrivals,
    gamma_arrivals,
    on_off_arrivals,
    weibull_arrivals,
    weibull_shape,
)
from quire_plugins.workloads.draws import stream


def gaps(times, count=20_000) -> list[float]:
    return [later - earlier for earlier, later in pairwise([0.0, *islice(times, count)])]


@pytest.mark.parametrize("arrivals", [gamma_arrivals, weibull_arrivals])
@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0])
def test_gaps_have_the_rate_and_variation_asked_for(arrivals, cv):
    found = gaps(arrivals(stream(0, "gaps"), 4.0, cv=cv))
    # standard error of the mean: 0.25 cv / sqrt(20000), at most 0.0036
    assert fmean(found) == pytest.approx(0.25, abs=0.012)
    assert pstdev(found) / fmean(found) == pytest.approx(cv, rel=0.12)
    assert min(found) >= 0


def test_a_variation_of_one_is_poisson():
    found = gaps(gamma_arrivals(stream(1, "gaps"), 1.0, cv=1.0))
    assert sum(gap > 1.0 for gap in found) / len(found) == pytest.approx(math.exp(-1), abs=0.014)
    assert weibull_shape(1.0) == pytest.approx(1.0, abs=1e-9)


def test_on_off_is_silent_between_bursts_and_keeps_its_rate():
    times = list(islice(on_off_arrivals(stream(0, "on off"), 5.0, on=4.0, off=12.0), 40_000))
    assert times == sorted(times)
    found = [later - earlier for earlier, later in pairwise(times)]
    assert len(times) / times[-1] == pytest.approx(5.0, rel=0.1)
    # within bursts 20 a second; of all gaps those longer than a second are off periods, one per 80 arrivals
    assert 1 / fmean(gap for gap in found if gap < 0.5) == pytest.approx(20.0, rel=0.05)
    assert sum(gap > 1.0 for gap in found) / len(found) == pytest.approx(math.exp(-1 / 12) / 80, rel=0.15)


def test_diurnal_swings_around_its_rate():
    times = list(islice(diurnal_arrivals(stream(0, "day"), 10.0, period=100.0, amplitude=0.8), 50_000))
    days = int(times[-1] // 100.0)
    inside = [time % 100.0 for time in times if time < days * 100.0]
    rising = sum(time < 50.0 for time in inside)
    assert len(inside) / (days * 100.0) == pytest.approx(10.0, rel=0.03)
    # half a sine holds 1/2 + amplitude / pi of the whole
    assert rising / len(inside) == pytest.approx(0.5 + 0.8 / math.pi, abs=0.01)
