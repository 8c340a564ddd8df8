"""Bootstrap intervals: percentiles of a drawn multiset are numpy's, and intervals cover what they should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from quire.report.resampling import PairedValues, change_interval, draw_requests, interval_over_seeds


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.lists(st.floats(-5, 5), max_size=4), min_size=1, max_size=30),
    seed=st.integers(0, 100),
    name=st.sampled_from(["mean", "p50", "p90", "p99"]),
)
def test_a_statistic_of_drawn_requests_is_that_of_the_values_repeated(values, seed, name):
    drawn_DR = draw_requests(len(values), rng=np.random.default_rng(seed), draws=3)
    assert (drawn_DR.sum(axis=1) == len(values)).all()
    if not any(values):
        return
    found = PairedValues(values).statistic(name, drawn_DR)
    for drawn_R, value in zip(drawn_DR, found, strict=True):
        repeated = [v for count, each in zip(drawn_R, values, strict=True) for v in each * count]
        if not repeated:
            assert np.isnan(value)
            continue
        expected = np.mean(repeated) if name == "mean" else np.percentile(repeated, int(name[1:]))
        assert value == pytest.approx(expected, abs=1e-12)


def test_a_percentile_reads_on_where_the_largest_values_were_not_drawn():
    values = [[float(v)] for v in range(2000)]
    drawn = np.zeros((1, 2000), dtype=np.int32)
    drawn[0, :2] = 1000
    assert PairedValues(values).statistic("p99", drawn)[0] == 1.0


def test_over_seeds_the_quantile_is_students_t():
    found = interval_over_seeds(0.1, 0.02, seeds=5, confidence=0.95)
    half = 2.7764 * np.sqrt(1.25) * 0.02
    assert (found.low, found.high) == pytest.approx(
        (1.1 * np.exp(-half) - 1, 1.1 * np.exp(half) - 1), rel=1e-4
    )


def test_with_one_seed_the_interval_is_scipys_paired_bootstrap():
    rng = np.random.default_rng(3)
    theirs = rng.exponential(1.0, 300)
    ours = theirs * 0.9 + 0.05 * rng.exponential(1.0, 300)
    drawn = draw_requests(300, rng=rng, draws=4000)
    a, b = (PairedValues([[v] for v in values]).statistic("mean", drawn) for values in (ours, theirs))
    found = change_interval(
        np.array([ours.mean()]), np.array([theirs.mean()]), a[None], b[None], rng=rng, confidence=0.95
    )
    expected = stats.bootstrap(
        (ours, theirs),
        lambda x, y, axis: x.mean(axis=axis) / y.mean(axis=axis) - 1,
        paired=True,
        n_resamples=4000,
        method="percentile",
        rng=1,
    ).confidence_interval
    assert found.change == pytest.approx(ours.mean() / theirs.mean() - 1)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.002)


def test_intervals_over_five_seeds_cover_the_truth_as_often_as_they_say():
    """Latencies differ between seeds, and the effect does too: its mean, over endless seeds, is 10%."""
    rng = np.random.default_rng(5)
    trials, seeds, requests, draws = 300, 5, 30, 200
    covered = 0
    for _ in range(trials):
        level_S1 = np.exp(0.2 * rng.standard_normal((seeds, 1)))
        effect_S1 = 1.1 + 0.05 * rng.standard_normal((seeds, 1))
        theirs_SR = level_S1 * rng.exponential(1.0, (seeds, requests))
        ours_SR = theirs_SR * effect_S1
        drawn = [draw_requests(requests, rng=rng, draws=draws) / requests for _ in range(seeds)]
        ours_SD = np.stack([d @ v for d, v in zip(drawn, ours_SR, strict=True)])
        theirs_SD = np.stack([d @ v for d, v in zip(drawn, theirs_SR, strict=True)])
        found = change_interval(
            ours_SR.mean(axis=1), theirs_SR.mean(axis=1), ours_SD, theirs_SD, rng=rng, confidence=0.95
        )
        covered += found.low <= 0.1 <= found.high
    assert 0.93 <= covered / trials <= 0.98
