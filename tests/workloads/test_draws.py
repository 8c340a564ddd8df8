"""Distributions against their textbook moments, and against themselves in another process."""

import math
from itertools import islice, pairwise

import pytest

from quire_plugins.workloads.draws import lognormal_lengths, poisson_arrivals, stream, token_ids

GOLDEN_STREAM = [0.9026333947315327, 0.27717279286480634, 0.3194278536988475]


def test_streams_differ_by_seed_and_by_name():
    draws = {(seed, name): stream(seed, name).random() for seed in (0, 1) for name in ("a", "b")}
    assert len(set(draws.values())) == 4
    assert stream(1, "a").random() == draws[1, "a"]


def test_the_bits_of_a_stream_never_change():
    assert stream(0, "golden").random(3).tolist() == GOLDEN_STREAM


def test_poisson_gaps_are_exponential():
    times = list(islice(poisson_arrivals(stream(0, "arrivals"), 4.0), 20_000))
    gaps = [later - earlier for earlier, later in pairwise([0.0, *times])]
    mean = sum(gaps) / len(gaps)
    # standard errors: 0.25 / sqrt(20000) = 0.0018 for the mean, 0.0034 for the fraction
    assert mean == pytest.approx(0.25, abs=0.007)
    assert sum(gap > 0.25 for gap in gaps) / len(gaps) == pytest.approx(math.exp(-1), abs=0.014)
    assert times == sorted(times)


def test_lognormal_lengths_have_the_mean_and_spread_asked_for():
    lengths = list(islice(lognormal_lengths(stream(0, "n"), mean=200, sigma=0.5, cap=10**6), 20_000))
    logs = [math.log(length) for length in lengths]
    center = sum(logs) / len(logs)
    assert sum(lengths) / len(lengths) == pytest.approx(200, rel=0.02)
    assert center == pytest.approx(math.log(200) - 0.125, abs=0.015)
    assert math.sqrt(sum((x - center) ** 2 for x in logs) / len(logs)) == pytest.approx(0.5, abs=0.015)


def test_lengths_stay_within_one_and_the_cap():
    lengths = list(islice(lognormal_lengths(stream(0, "n"), mean=5, sigma=3.0, cap=9), 500))
    assert set(lengths) >= {1, 9}
    assert all(1 <= length <= 9 for length in lengths)


def test_without_spread_all_lengths_are_the_mean():
    assert set(islice(lognormal_lengths(stream(0, "n"), mean=17, sigma=0, cap=100), 50)) == {17}


def test_token_ids_cover_the_vocabulary_evenly():
    drawn = token_ids(stream(0, "tokens"), 10_000, 10)
    assert set(drawn) == set(range(10))
    assert all(type(token) is int for token in drawn)
    assert max(abs(drawn.count(token) - 1000) for token in range(10)) < 150  # 5 standard deviations
