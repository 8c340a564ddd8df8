"""Every metric against values worked out by hand."""

import math

import pytest

from quire.engine.records import RequestRecord, StepRecord
from quire.metrics import METRICS, Summary, distribution


def request(**changes) -> RequestRecord:
    fields = {
        "request_id": "a",
        "sample": 0,
        "tenant": "default",
        "arrival": 1.0,
        "num_prompt_tokens": 10,
        "num_computed_tokens": 12,
        "first_scheduled": 1.5,
        "token_times": [2.0, 2.25, 3.0],
        "finish": 3.0,
        "finish_reason": "stop",
    }
    return RequestRecord(**(fields | changes))


def step(**changes) -> StepRecord:
    fields = {
        "index": 0,
        "start": 1.5,
        "end": 2.0,
        "seconds": 0.4,
        "schedule_seconds": 20e-6,
        "num_tokens": 11,
        "num_sequences": 2,
        "prefill_tokens": 10,
        "decode_sequences": 1,
        "context_tokens": 30,
        "max_context": 20,
        "num_running": 2,
        "num_waiting": 0,
        "num_preempted": 0,
        "kv_used": 3,
        "kv_cached": 1,
        "kv_total": 10,
    }
    return StepRecord(**(fields | changes))


def metrics(*, requests=(), steps=()) -> dict:
    summary = Summary()
    for record in requests:
        summary.add_request(record)
    for record in steps:
        summary.add_step(record)
    return summary.metrics()


def test_percentiles_interpolate_linearly_between_ranks():
    # positions (N - 1) q / 100 of 10, 20, 30, 40: 1.5, 2.7, 2.97
    found = distribution([40.0, 10.0, 30.0, 20.0])
    assert found == pytest.approx(
        {"count": 4, "mean": 25.0, "p50": 25.0, "p90": 37.0, "p99": 39.7, "max": 40.0}
    )


def test_a_single_value_is_every_percentile_and_nothing_has_none():
    assert distribution([7.0]) == {"count": 1, "mean": 7.0, "p50": 7.0, "p90": 7.0, "p99": 7.0, "max": 7.0}
    assert distribution([]) is None


def test_latencies_of_one_sample():
    found = metrics(requests=[request()])
    assert found["queue_s"]["mean"] == pytest.approx(0.5)
    assert found["ttft_s"]["mean"] == pytest.approx(1.0)
    assert found["tpot_s"]["mean"] == pytest.approx(0.5)
    assert found["itl_s"] == pytest.approx(
        {"count": 2, "mean": 0.5, "p50": 0.5, "p90": 0.7, "p99": 0.745, "max": 0.75}
    )
    assert found["itl_max_s"]["mean"] == pytest.approx(0.75)
    assert found["e2e_s"]["mean"] == pytest.approx(2.0)
    assert found["normalized_latency_s"]["mean"] == pytest.approx(2.0 / 3)
    assert found["sample_prompt_tokens"]["max"] == 10
    assert found["sample_output_tokens"]["max"] == 3


def test_tpot_is_a_mean_over_samples_and_itl_over_tokens():
    slow = request(request_id="b", token_times=[2.0, 4.0], finish=4.0)
    found = metrics(requests=[request(), slow])
    assert found["tpot_s"]["mean"] == pytest.approx((0.5 + 2.0) / 2)
    assert found["itl_s"]["mean"] == pytest.approx((0.25 + 0.75 + 2.0) / 3)
    assert found["itl_max_s"]["mean"] == pytest.approx((0.75 + 2.0) / 2)


def test_one_token_has_a_first_but_no_next():
    found = metrics(requests=[request(token_times=[2.0], finish=2.0, finish_reason="length")])
    assert found["ttft_s"]["count"] == 1
    assert found["tpot_s"] is None
    assert found["itl_s"] is None
    assert found["itl_max_s"] is None


def test_throughput_spans_first_arrival_to_last_event():
    other = request(request_id="b", arrival=0.5, num_prompt_tokens=6, token_times=[3.0], finish=3.0)
    found = metrics(requests=[request(), other], steps=[step(), step(start=2.0, end=4.5)])
    assert found["duration_s"] == pytest.approx(4.0)
    assert (found["requests"], found["prompt_tokens"], found["output_tokens"]) == (2, 16, 4)
    assert found["requests_per_s"] == pytest.approx(0.5)
    assert found["output_tokens_per_s"] == pytest.approx(1.0)
    assert found["total_tokens_per_s"] == pytest.approx(5.0)
    assert found["busy_fraction"] == pytest.approx(0.2)


def test_samples_of_a_request_share_its_prompt():
    first = request(num_samples=2, num_cached_tokens=4)
    second = request(sample=1, num_samples=2, num_cached_tokens=9)
    found = metrics(requests=[first, second])
    assert (found["requests"], found["completed"]) == (1, 2)
    assert (found["prompt_tokens"], found["output_tokens"]) == (10, 6)
    assert found["prefix_hit_rate"] == pytest.approx(13 / 20)


def test_failed_and_aborted_samples_are_counted_apart():
    refused = request(request_id="b", first_scheduled=None, token_times=[], finish_reason="error")
    aborted = request(request_id="c", token_times=[2.0], finish_reason="abort", num_cached_tokens=5)
    found = metrics(requests=[request(), refused, aborted])
    assert (found["completed"], found["failed"], found["aborted"]) == (1, 1, 1)
    assert (found["requests"], found["output_tokens"], found["ttft_s"]["count"]) == (1, 3, 1)
    assert found["prefix_hit_rate"] == pytest.approx(5 / 20)


@pytest.mark.parametrize(
    ("computed", "cached", "preempted", "expected"),
    [
        (12, 0, 0, 0),
        (20, 0, 1, 8),
        (20, 4, 2, 12),
        (11, 0, 1, 0),
    ],
)
def test_recomputed_tokens_are_those_beyond_one_pass(computed, cached, preempted, expected):
    # one pass over 10 prompt and 3 output tokens computes 10 - cached + 2
    record = request(num_computed_tokens=computed, num_cached_tokens=cached, num_preemptions=preempted)
    found = metrics(requests=[record])
    assert found["recomputed_tokens"] == expected
    assert found["preemptions"] == preempted


def test_steps():
    found = metrics(steps=[step(), step(index=1, seconds=0.2, num_tokens=1, num_sequences=1, kv_used=8)])
    assert found["steps"] == 2
    assert found["step_s"]["mean"] == pytest.approx(0.3)
    assert found["schedule_us"]["p99"] == pytest.approx(20.0)
    assert found["step_tokens"]["mean"] == pytest.approx(6.0)
    assert found["step_sequences"]["max"] == 2
    assert found["kv_use"]["max"] == pytest.approx(0.8)


def test_a_run_of_nothing_has_no_rates_and_every_metric_by_name():
    found = metrics()
    assert set(found) == set(METRICS)
    assert found["duration_s"] == 0
    assert found["output_tokens_per_s"] is None
    assert found["prefix_hit_rate"] is None
    assert not any(isinstance(value, float) and not math.isfinite(value) for value in found.values())


def test_definitions_name_their_unit_and_formula_once():
    assert all(metric.unit and metric.formula for metric in METRICS.values())
    assert len({metric.formula for metric in METRICS.values()}) == len(METRICS)
