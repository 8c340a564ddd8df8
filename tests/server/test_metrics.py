"""What Prometheus reads, parsed back by its own library."""

import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from quire.engine.records import RequestRecord
from quire.engine.request import Request
from quire.server.client import EngineStats
from quire.server.metrics import ServerMetrics

REQUEST = Request(id="r", prompt_token_ids=(1, 2, 3))


def record(**changes):
    fields = {
        "request_id": "r",
        "sample": 0,
        "tenant": "default",
        "arrival": 10.0,
        "num_prompt_tokens": 3,
        "num_cached_tokens": 2,
        "first_scheduled": 10.5,
        "token_times": [11.0, 11.25, 11.75],
        "finish": 12.0,
        "finish_reason": "stop",
    }
    return RequestRecord(**(fields | changes))


def read(metrics):
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, sample.labels.get("le"), sample.labels.get("finished_reason")): sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("model_name") == "demo" and not sample.name.endswith("_created")
    }


def test_latencies_are_those_of_the_record():
    metrics = ServerMetrics(model_name="demo")
    metrics.observe(REQUEST, record())
    metrics.observe(REQUEST, record(sample=1, finish_reason="abort", token_times=[]))
    values = read(metrics)
    for name, value in {
        "time_to_first_token_seconds": 1.0,
        "e2e_request_latency_seconds": 2.0,
        "request_queue_time_seconds": 0.5,
        "request_prefill_time_seconds": 0.5,
        "request_decode_time_seconds": 0.75,
        "request_inference_time_seconds": 1.25,
        "inter_token_latency_seconds": 0.75,
        "request_time_per_output_token_seconds": 0.375,
        "request_generation_tokens": 3,
        "request_prompt_tokens": 3,
    }.items():
        assert values[f"quire:{name}_sum", None, None] == value
        gaps = 2 if name == "inter_token_latency_seconds" else 1
        assert values[f"quire:{name}_count", None, None] == gaps
    assert values["quire:prompt_tokens_total", None, None] == 3
    assert values["quire:prompt_tokens_cached_total", None, None] == 4
    ends = {key[2]: value for key, value in values.items() if key[0] == "quire:request_success_total"}
    assert ends == {"stop": 1, "length": 0, "abort": 1, "error": 0}


def test_totals_go_on_over_a_restart_and_gauges_say_when_nobody_answers():
    metrics = ServerMetrics(model_name="demo", prefix="vllm")
    first = EngineStats(running=2, waiting=1, kv_used=3, kv_total=12, prefix_queries=7, generated_tokens=10)
    metrics.update(first)
    metrics.update(first)
    values = read(metrics)
    assert values["vllm:num_requests_running", None, None] == 2
    assert values["vllm:num_requests_waiting", None, None] == 1
    assert values["vllm:kv_cache_usage_perc", None, None] == 0.25
    assert values["vllm:engine_up", None, None] == 1
    assert values["vllm:prefix_cache_queries_total", None, None] == 7
    assert values["vllm:generation_tokens_total", None, None] == 10
    metrics.update(None)
    values = read(metrics)
    assert values["vllm:engine_up", None, None] == values["vllm:num_requests_running", None, None] == 0
    metrics.update(EngineStats(prefix_queries=2, generated_tokens=4, restarts=1))
    values = read(metrics)
    assert values["vllm:prefix_cache_queries_total", None, None] == 9
    assert values["vllm:generation_tokens_total", None, None] == 14
    assert values["vllm:engine_restarts_total", None, None] == 1


@pytest.fixture
def dashboard():
    return json.loads((Path(__file__).parents[2] / "docs" / "grafana.json").read_text())


def test_the_dashboard_asks_for_nothing_but_what_there_is(dashboard):
    metrics = ServerMetrics(model_name="demo")
    metrics.observe(REQUEST, record())
    metrics.update(EngineStats())
    names = {key[0].removeprefix("quire:") for key in read(metrics)}
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(asked) > 10
    for expression in asked:
        wanted = [part.split("{")[0] for part in expression.split("${prefix}:")[1:]]
        assert wanted
        assert set(wanted) <= names, expression
