"""When a probe is known to fail: never of one that would have held, and at once when nothing can save it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.config.slo import SloConfig
from quire.engine.records import RequestRecord
from quire_plugins.tasks.shortfall import Shortfall


def ended(ttft: float, reason: str = "length") -> RequestRecord:
    return RequestRecord(
        request_id="a",
        sample=0,
        tenant="default",
        arrival=1.0,
        num_prompt_tokens=3,
        token_times=[1.0 + ttft],
        finish=1.0 + ttft,
        finish_reason=reason,
    )


@given(
    values=st.lists(st.integers(1, 9), min_size=1, max_size=60),
    missing=st.integers(0, 5),
    percentile=st.sampled_from([50, 90, 99]),
)
def test_who_is_sure_to_miss_misses(values, missing, percentile):
    """Whatever comes after, and however many of those expected never come."""
    shortfall = Shortfall(slo=SloConfig(**{f"ttft_p{percentile}": 5.5}), requests=len(values) + missing)
    for number, value in enumerate(values, 1):
        if shortfall.add(ended(value)):
            best = [*values[:number], *[1] * (len(values) - number)]
            assert np.percentile(best, percentile) > 5.5
            return
    sure = sorted(values)[(len(values) - 1) * percentile // 100]
    assert missing or sure < 5.5, "with the last request everything is known"


@pytest.mark.parametrize(("percentile", "needed"), [(50, 51), (90, 11), (99, 2)])
def test_as_many_as_decide_a_percentile_of_a_hundred(percentile, needed):
    shortfall = Shortfall(slo=SloConfig(**{f"e2e_p{percentile}": 1.0}), requests=100)
    assert [shortfall.add(ended(2.0)) for _ in range(needed)] == [False] * (needed - 1) + [True]


def test_a_lost_request_is_a_miss_and_gaps_of_tokens_are_not_counted():
    shortfall = Shortfall(slo=SloConfig(itl_p50=0.1, attainment=None), requests=10)
    assert not shortfall.add(ended(100.0))
    assert shortfall.add(ended(0.1, "error"))
