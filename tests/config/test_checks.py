"""Checks of options: what passes, and what a user is told of what does not."""

import math
from types import SimpleNamespace

import pytest

from quire.config.checks import check_above_zero, check_not_negative
from quire.errors import UserError


def test_what_is_allowed_passes():
    config = SimpleNamespace(rate=0.5, cap=3, aging=0.0, none=None)
    check_above_zero("workload", config, "rate", "cap")
    check_above_zero("workload", config, "none", null=True)
    check_not_negative("scheduler", config, "aging", "rate")


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_what_is_not_above_zero_is_named(value):
    with pytest.raises(UserError) as told:
        check_above_zero(
            "workload", SimpleNamespace(cap=1.0, rate=value), "cap", "rate", what="number a second"
        )
    assert str(told.value) == f"workload.rate={value}: must be a finite number a second > 0"


def test_null_is_offered_where_it_is_allowed():
    with pytest.raises(UserError, match=r"^workload\.rate=0: must be a finite number > 0, or null$"):
        check_above_zero("workload", SimpleNamespace(rate=0), "rate", null=True)


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
def test_what_is_negative_is_named(value):
    with pytest.raises(UserError) as told:
        check_not_negative("scheduler", SimpleNamespace(aging=value), "aging")
    assert str(told.value) == f"scheduler.aging={value}: must be a finite number >= 0"
