"""The sample of requests: what its rows say, and that it is fair."""

import pytest
from records import request

from quire_plugins.trackers.request_sample import COLUMNS, RequestSample


def test_rows_say_what_the_records_come_to():
    sample = RequestSample(size=10)
    sample.add(
        request(4.0, arrival=2.0, first_scheduled=2.5, token_times=[3.0, 3.25, 4.0], num_preemptions=1)
    )
    sample.add(request(1.5, arrival=1.0, token_times=[], finish_reason="error"))
    refused, completed = (dict(zip(COLUMNS, row, strict=True)) for row in sample.rows())
    assert completed == {
        "request": "ä-1",
        "sample": 0,
        "tenant": "default",
        "arrival_s": 2.0,
        "prompt_tokens": 3,
        "cached_tokens": 0,
        "output_tokens": 3,
        "preemptions": 1,
        "finish_reason": "stop",
        "queue_s": 0.5,
        "ttft_s": 1.0,
        "tpot_s": 0.5,
        "itl_max_s": 0.75,
        "e2e_s": 2.0,
        "normalized_latency_s": pytest.approx(2 / 3),
    }
    assert (refused["finish_reason"], refused["ttft_s"], refused["e2e_s"]) == ("error", None, None)
    assert sample.completed("ttft_s") == [1.0]


def test_every_request_is_kept_with_the_same_probability():
    """Of 100 places for 1,000 requests each tenth of them gets about 10; 4 standard deviations are 12."""
    sample = RequestSample(size=100)
    for number in range(1000):
        sample.add(request(1.0, arrival=float(number)))
    kept = [row[COLUMNS.index("arrival_s")] for row in sample.rows()]
    assert (sample.seen, len(set(kept))) == (1000, 100)
    assert kept == sorted(kept)
    tenths = [sum(100 * tenth <= arrival < 100 * (tenth + 1) for arrival in kept) for tenth in range(10)]
    assert max(tenths) <= 22
    assert min(tenths) >= 1


def test_none_are_kept_where_none_are_wanted():
    sample = RequestSample(size=0)
    sample.add(request(1.0))
    assert (sample.rows(), sample.seen) == ([], 1)
