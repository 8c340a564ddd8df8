"""Distributions in bounded memory: exact while short, close when long."""

import numpy as np
import pytest

from quire.metrics import values
from quire.metrics.values import Values, exact_distribution

PERCENTILES = (50, 90, 99)


@pytest.fixture
def short(monkeypatch):
    """Numbers are binned from 100 on."""
    monkeypatch.setattr(values, "EXACT", 100)


def gather(numbers) -> dict:
    gathered = Values()
    for k, number in enumerate(numbers):
        if k % 3:
            gathered.append(number)
        else:
            gathered.extend([number])
    return gathered.distribution(PERCENTILES)


def test_few_numbers_are_exact(short):
    numbers = [float(x) for x in np.random.default_rng(0).lognormal(size=99)]
    assert gather(numbers) == exact_distribution(numbers, PERCENTILES)
    assert gather([]) is None


def test_many_numbers_are_close(short):
    numbers = np.random.default_rng(0).lognormal(sigma=3.0, size=5003)
    found, expected = gather(numbers), exact_distribution(numbers, PERCENTILES)
    assert (found["count"], found["max"]) == (5003, expected["max"])
    assert found["mean"] == pytest.approx(expected["mean"], rel=1e-12)
    for q in PERCENTILES:  # half a bin, and a neighbour at the sparse end
        assert found[f"p{q}"] == pytest.approx(expected[f"p{q}"], rel=0.01)
    assert found["p50"] == pytest.approx(float(np.sort(numbers)[2501]), rel=0.0006)


def test_zeros_and_equal_numbers_stay_themselves(short):
    found = gather([0.0] * 150 + [4.0] * 60 + [8.0] * 40)
    assert found["p50"] == 0.0
    assert found["p90"] == pytest.approx(8.0, rel=0.0006)
    assert found["p90"] <= found["max"] == 8.0
    assert gather([0.0] * 300)["p99"] == 0.0


def test_memory_does_not_grow_with_the_numbers(short):
    gathered = Values()
    gathered.extend(np.random.default_rng(0).random(99_999) + 1e-3)
    assert len(gathered._kept) < 100
    assert len(gathered._bins) < 7000  # ln(1000) / 0.001
