"""Objectives: what is allowed, and what a run falls short of."""

import pytest

from quire.config.slo import SloConfig
from quire.errors import UserError
from quire.metrics.summary import Summary


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"ttft": 0.0}, r"slo\.ttft=0\.0: must be a finite number > 0"),
        ({"itl_p99": -1.0}, r"slo\.itl_p99=-1\.0"),
        ({"e2e": float("inf")}, r"slo\.e2e=inf"),
        ({"attainment": 1.5, "ttft": 1.0}, r"slo\.attainment=1\.5: must be a fraction"),
        ({"attainment": 0.9}, r"slo\.attainment=0\.9: must be null without"),
    ],
)
def test_bad_objectives_are_named(options, complaint):
    with pytest.raises(UserError, match=complaint):
        SloConfig(**options)


def test_misses_are_those_above_their_bound():
    slo = SloConfig(ttft=1.0, ttft_p99=1.0, itl_p50=0.1, attainment=0.9)
    summary = {
        "ttft_s": {"p50": 0.5, "p99": 1.25},
        "itl_s": {"p50": 0.1, "p99": 9.0},
        "slo_attainment": 0.875,
    }
    assert list(slo.misses(summary)) == ["ttft_p99 1.25 s > 1 s", "slo_attainment 0.875 < 0.9"]


def test_what_a_run_has_no_value_of_is_not_missed():
    assert list(SloConfig(itl_p99=0.1, ttft=1.0, attainment=0.5).misses(Summary().metrics())) == []
