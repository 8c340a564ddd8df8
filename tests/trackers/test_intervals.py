"""The time series against hand-computed intervals."""

from itertools import pairwise

import pytest
from records import request, step

from quire_plugins.trackers.intervals import Intervals


def rows_of(steps, *, seconds=1.0, requests=()):
    """Rows of the series; `requests` are (after which step, record)."""
    intervals = Intervals(seconds=seconds)
    rows = []
    for record in steps:
        rows.append(intervals.step(record))
        for index, ended in requests:
            if index == record.index:
                intervals.request(ended)
    return [row for row in (*rows, intervals.rest()) if row is not None]


def test_an_interval_adds_up_its_steps_and_the_requests_that_ended_in_it():
    steps = [
        step(0, 10.01, samples=1, prefill_tokens=30, num_sequences=1, num_waiting=5, kv_used=1),
        step(
            1, 10.51, samples=3, prefill_tokens=10, num_sequences=3, num_waiting=4, kv_used=3, num_preempted=2
        ),
        step(2, 11.25, samples=7, prefill_tokens=0),
    ]
    ended = [
        (0, request(10.01, arrival=9.0, token_times=[10.01])),
        (1, request(10.51, arrival=9.51, token_times=[10.01, 10.51])),
        (1, request(10.51, finish_reason="error", token_times=[])),
        (2, request(11.25, arrival=11.0, token_times=[11.25])),
    ]
    first, last = rows_of(steps, requests=ended)
    assert first == pytest.approx(
        {
            "time_s": 1.0,
            "output_tokens_per_s": 4.0,
            "prefill_tokens_per_s": 40.0,
            "busy_fraction": 0.02,
            "step_s": 0.01,
            "schedule_us": 10.0,
            "step_sequences": 2.0,
            "step_tokens": 4.0,
            "running": 2,
            "waiting": 4,
            "kv_use": 3 / 8,
            "kv_cached": 1 / 8,
            "preemptions": 2,
            "ended": 3,
            "ttft_s": (1.01 + 0.5) / 2,
            "ttft_s_max": 1.01,
            "e2e_s": (1.01 + 1.0) / 2,
            "e2e_s_max": 1.01,
        }
    )
    assert last["time_s"] == pytest.approx(1.25)
    assert last["output_tokens_per_s"] == pytest.approx(7 / 0.25), (
        "the last interval is only as long as the run"
    )
    assert (last["ttft_s"], last["ended"]) == (pytest.approx(0.25), 1)


def test_intervals_in_which_nothing_happened_have_no_row():
    rows = rows_of([step(0, 0.51), step(1, 7.61)])
    assert [row["time_s"] for row in rows] == pytest.approx([1.0, 7.11])
    assert rows[1]["output_tokens_per_s"] == pytest.approx(2 / 0.11)


def test_no_steps_are_no_rows():
    intervals = Intervals(seconds=1.0)
    intervals.request(request(0.3))
    assert intervals.rest() is None


def test_every_token_is_in_exactly_one_row_and_rows_grow_with_the_logarithm_of_the_steps():
    count = 40_000
    rows = rows_of([step(i, 0.01 * (i + 1)) for i in range(count)], seconds=0.02)
    assert len(rows) < 6000
    times = [0.0, *(row["time_s"] for row in rows)]
    assert times == sorted(times)
    spans = [later - earlier for earlier, later in pairwise(times)]
    tokens = sum(row["output_tokens_per_s"] * span for row, span in zip(rows, spans, strict=True))
    assert tokens == pytest.approx(2 * count, abs=4)


def test_the_rate_of_a_last_interval_that_has_hardly_begun_is_not_beyond_that_of_its_step():
    """Steps of 10 ms, the first of which begins at 0.5."""
    first, last = rows_of([step(0, 0.51), step(1, 1.5 + 1e-6)])
    assert first["time_s"] == pytest.approx(1.0)
    assert last["output_tokens_per_s"] == pytest.approx(2 / 0.01)


def test_a_step_that_ends_with_an_interval_is_part_of_it():
    (whole,) = rows_of([step(0, 0.26, start=0.25), step(1, 1.25)])
    assert whole["output_tokens_per_s"] == pytest.approx(4.0)
