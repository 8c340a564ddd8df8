"""Every metric against values worked out by hand."""

import math

import pytest

from quire.config.slo import SloConfig
from quire.engine.records import RequestRecord, StepRecord
from quire.metrics import METRICS
from quire.metrics.fairness import TenantService
from quire.metrics.summary import Summary, distribution


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


def test_goodput_counts_samples_that_keep_every_objective():
    """The sample has TTFT 1.0, gaps of 0.25 and 0.75, TPOT 0.5, E2E 2.0, over 2 seconds."""
    late = request(request_id="b", token_times=[2.5, 2.75, 3.0])

    def good(**slo):
        summary = Summary(slo=SloConfig(**slo))
        for record in (request(), late, request(request_id="c", finish_reason="error", token_times=[])):
            summary.add_request(record)
        found = summary.metrics()
        return found["goodput_per_s"], found["slo_attainment"]

    assert good(ttft=1.0) == pytest.approx((0.5, 1 / 3))
    assert good(itl=0.75) == pytest.approx((1.0, 2 / 3))
    assert good(ttft=1.0, itl=0.5) == pytest.approx((0.0, 0.0))
    assert good(tpot=0.5, e2e=2.0) == pytest.approx((1.0, 2 / 3))
    assert good(ttft_p99=0.1) == (None, None), "objectives of a run say nothing of a request"


def test_one_token_keeps_objectives_on_gaps():
    summary = Summary(slo=SloConfig(itl=0.1, tpot=0.1))
    summary.add_request(request(token_times=[2.0], finish=2.0))
    assert summary.metrics()["slo_attainment"] == 1.0


def test_kv_memory_used_reserved_and_wasted():
    found = metrics(
        steps=[
            step(kv_tokens_used=30, kv_tokens_reserved=40, kv_cached=5),
            step(kv_tokens_used=10, kv_tokens_reserved=40, kv_cached=0),
            step(kv_tokens_used=0, kv_tokens_reserved=0, kv_cached=1),
        ]
    )
    assert found["kv_tokens_used"]["mean"] == pytest.approx(40 / 3)
    assert found["kv_tokens_reserved"]["max"] == 40
    assert found["kv_wasted"]["mean"] == pytest.approx((0.25 + 0.75 + 0.0) / 3)
    assert found["kv_cached"]["mean"] == pytest.approx(0.2)


def test_scheduler_time_is_summed_and_phases_are_told_apart():
    found = metrics(
        steps=[step(phases={"forward": 0.3, "sample": 0.1}), step(index=1, phases={"forward": 0.1})]
    )
    assert found["schedule_s"] == pytest.approx(40e-6)
    assert found["phase_s"]["forward"]["mean"] == pytest.approx(0.2)
    assert found["phase_s"]["sample"]["count"] == 1


def test_tenants_apart():
    other = request(request_id="b", tenant="b", token_times=[5.0], finish=5.0)
    found = metrics(requests=[request(), other])
    assert list(found["tenants"]) == ["b", "default"]
    assert found["tenants"]["b"]["ttft_s"]["mean"] == pytest.approx(4.0)
    assert found["tenants"]["default"]["sample_output_tokens"]["max"] == 3
    # normalised latencies 2/3 and 4: (14/3)^2 / (2 * (4/9 + 16))
    assert found["jain_latency"] == pytest.approx((14 / 3) ** 2 / (2 * (4 / 9 + 16)))


def test_a_tenant_that_waits_falls_behind_and_one_without_demand_does_not():
    """Windows of one second; service is prompt + 2 * output tokens.

    a asks for 10 + 6 in second 0 and gets 12, 4; b asks for 16 in second 0 and gets all in second 1; c asks
    for 12 in second 1, and gets it.
        second 0   got  a 12  b 0            backlog  a 4  b 16         differences  b min(12, 16)
        second 1   got  a 4   b 16   c 12    backlog  none              differences  none
    """
    a = request(tenant="a", arrival=0.0, token_times=[0.5, 1.1, 1.2], finish=1.2)
    b = request(request_id="b", tenant="b", arrival=0.0, token_times=[1.5, 1.6, 1.7], finish=1.7)
    c = request(request_id="c", tenant="c", arrival=1.0, token_times=[1.9], finish=1.9)
    found = metrics(requests=[a, b, c])
    assert found["service_difference"] == pytest.approx(6.0)
    assert found["service_difference_max"] == pytest.approx(12.0)
    # second 0: 12^2 / (2 * 12^2); in second 1 nobody has backlog
    assert found["jain_service"] == pytest.approx(0.5)


def test_one_tenant_is_neither_fair_nor_unfair():
    found = metrics(requests=[request()])
    assert (found["service_difference"], found["jain_service"], found["jain_latency"]) == (None, None, None)


def test_long_runs_have_wider_windows_and_the_same_service():
    """4,096 seconds make windows of four; halves of a tenant's service lie in the first and the last."""
    early = request(tenant="a", arrival=0.0, token_times=[1.0], finish=1.0)
    late = request(request_id="b", tenant="a", arrival=4095.0, token_times=[4095.5], finish=4095.5)
    other = request(request_id="c", tenant="b", arrival=0.0, token_times=[4095.5], finish=4095.5)
    service = TenantService()
    for record in (early, late, other):
        service.add(record)
    differences = service.differences()
    assert len(differences) == 1024
    assert (differences[0], differences[1], differences[-1]) == (12.0, 0.0, 0.0)
