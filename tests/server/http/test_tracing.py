"""Spans of requests, as a collector gets them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from live_process import served
from live_server import LiveServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanKind, StatusCode

from quire.config.compose import compose
from quire.errors import UserError
from quire.registry import load_registry
from quire.server.otlp import trace_provider

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, LEFT_OUT = ({"traceparent": f"00-{TRACE}-{PARENT}-{flags}"} for flags in ("01", "00"))
BODY = {"prompt": "Once upon a time", "max_tokens": 6, "temperature": 0.5, "seed": 3, "ignore_eos": True}
CONVENTIONS = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
VLLMS = {"gen_ai.request.id", "gen_ai.request.n", "gen_ai.usage.num_sequences"}


@pytest.fixture(scope="module")
def exporter():
    return InMemorySpanExporter()


@pytest.fixture(scope="module")
def traced_server(exporter, tmp_path_factory):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with LiveServer(tmp_path_factory.mktemp("traced"), tracer=provider.get_tracer("quire")) as live:
        yield live
    provider.shutdown()


@pytest.fixture
def ask(traced_server, exporter):
    """Posts, and returns the answer with the spans that came of it."""
    exporter.clear()
    with httpx.Client(base_url=traced_server.url, timeout=60) as client:

        def post(path, body, headers=SAMPLED):
            answer = client.post(path, json=body, headers=headers)
            assert client.get("/health").status_code == 200, "which is not traced"
            return answer, exporter.get_finished_spans()

        yield post


def test_a_span_tells_of_the_request_and_belongs_to_the_clients_trace(ask):
    answer, (span,) = ask("/v1/completions", {**BODY, "user": "me", "stop": ["zzz"]})
    usage = answer.json()["usage"]
    told = dict(span.attributes)
    assert (span.name, span.kind) == ("text_completion demo", SpanKind.SERVER)
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.status.status_code is StatusCode.UNSET
    latencies = {name: told.pop(name) for name in list(told) if name.startswith("gen_ai.latency.")}
    assert told == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "quire",
        "gen_ai.request.model": "demo",
        "gen_ai.response.model": "demo",
        "gen_ai.response.id": answer.json()["id"],
        "gen_ai.request.id": answer.json()["id"],
        "gen_ai.request.stream": False,
        "gen_ai.request.max_tokens": 6,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.frequency_penalty": 0.0,
        "gen_ai.request.presence_penalty": 0.0,
        "gen_ai.request.seed": 3,
        "gen_ai.request.stop_sequences": ("zzz",),
        "gen_ai.request.choice.count": 1,
        "gen_ai.request.n": 1,
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.num_sequences": 1,
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.usage.cache_read.input_tokens": usage["prompt_tokens_details"]["cached_tokens"],
        "http.request.method": "POST",
        "http.route": "/v1/completions",
        "http.response.status_code": 200,
        "quire.preemptions": 0,
        "user.id": "me",
    }
    assert {name for name in told if name.startswith("gen_ai.")} <= CONVENTIONS | VLLMS
    seconds = {name.removeprefix("gen_ai.latency."): value for name, value in latencies.items()}
    assert 0 <= seconds["time_in_queue"] < seconds["time_to_first_token"] < seconds["e2e"]
    assert seconds["e2e"] <= (span.end_time - span.start_time) / 1e9
    sum_ = seconds["time_in_model_prefill"] + seconds["time_in_model_decode"]
    assert seconds["time_in_model_inference"] == pytest.approx(sum_)


def test_a_stream_of_several_prompts_and_samples_is_one_span(ask):
    body = {**BODY, "prompt": ["One", "Two"], "n": 2, "stream": True}
    answer, (span,) = ask("/v1/completions", body, headers={})
    assert answer.text.endswith("data: [DONE]\n\n")
    assert span.parent is None
    told = span.attributes
    assert told["gen_ai.request.stream"]
    assert told["gen_ai.usage.num_sequences"] == 4
    assert told["gen_ai.usage.output_tokens"] == 24
    assert told["gen_ai.response.finish_reasons"] == ("length",) * 4


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize("stream", [False, True])
def test_conversations(ask, path, stream):
    length = {"max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]}
    body = {"max_output_tokens": 4, "input": "Hi"} if "responses" in path else length
    answer, (span,) = ask(path, {**body, "stream": stream})
    assert answer.status_code == 200
    assert span.name == "chat demo"
    assert span.attributes["gen_ai.request.max_tokens"] == 4
    assert 1 <= span.attributes["gen_ai.usage.output_tokens"] <= 4
    assert span.attributes["gen_ai.latency.time_to_first_token"] > 0


def test_what_is_refused_has_a_span_with_the_reason(ask):
    _, (span,) = ask("/v1/completions", {"prompt": 1.5})
    assert span.name == "text_completion"
    assert span.attributes["error.type"] == "400"
    assert span.status.status_code is StatusCode.UNSET, "the client's mistake, not the server's"


def test_who_hangs_up_is_told_apart(traced_server, exporter):
    exporter.clear()
    body = {**BODY, "max_tokens": 900, "stream": True}
    with httpx.stream("POST", f"{traced_server.url}/v1/completions", json=body) as answer:
        next(answer.iter_bytes())
    end = time.monotonic() + 30
    while not (spans := exporter.get_finished_spans()):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert spans[0].attributes["error.type"] == "client_disconnected"


def test_a_trace_that_is_not_sampled_stays_so(ask):
    answer, spans = ask("/v1/completions", BODY, headers=LEFT_OUT)
    assert answer.status_code == 200
    assert not spans


class Collector:
    """Takes what is posted, as a collector does."""

    def __enter__(self):
        self.received = received = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                received.append((self.path, self.headers, body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()


def test_spans_reach_a_collector_before_the_server_ends(tmp_path):
    with Collector() as collector:
        with served(tmp_path, f"server.otlp_endpoint={collector.url}/") as (process, url):
            assert httpx.post(f"{url}/v1/completions", json=BODY, headers=SAMPLED).status_code == 200
            process.terminate()
            assert process.wait(30) == 0
        ((path, headers, body),) = collector.received
    assert path == "/v1/traces"
    assert headers["content-type"] == "application/x-protobuf"
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    about = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert about["service.name"] == "quire"
    (span,) = resource.scope_spans[0].spans
    assert (span.name, span.trace_id.hex()) == ("text_completion demo", TRACE)


ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def environment(monkeypatch):
    """Sets variables, of which there are none of OpenTelemetry's before."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)

    def set_all(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


def test_the_environment_may_ask_for_it(environment):
    assert trace_provider(None, version="1") is None
    with Collector() as collector:
        environment(**{ENDPOINT: collector.url}, OTEL_SERVICE_NAME="mine")
        provider = trace_provider(None, version="1")
        assert provider is not None
        provider.get_tracer("test").start_span("hello").end()
        provider.shutdown()
        ((path, _, body),) = collector.received
    assert path == "/v1/traces"
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert resource.resource.attributes
    assert "mine" in {each.value.string_value for each in resource.resource.attributes}


@pytest.mark.parametrize("given", ["", "/", "/v1/traces", "/v1/traces/"])
def test_the_endpoint_is_the_collector_or_its_path_for_traces(environment, given):
    with Collector() as collector:
        provider = trace_provider(collector.url + given, version="1")
        assert provider is not None
        provider.get_tracer("test").start_span("hello").end()
        provider.shutdown()
        assert [path for path, _, _ in collector.received] == ["/v1/traces"]


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_the_environment_may_turn_it_off(environment, off):
    environment(**{ENDPOINT: "http://localhost:4318"}, **off)
    assert trace_provider(None, version="1") is None


def test_a_collector_that_is_away_holds_nobody_up(environment):
    environment(OTEL_EXPORTER_OTLP_TIMEOUT="1")
    with Collector() as collector:
        url = collector.url
    provider = trace_provider(url, version="1")
    assert provider is not None
    provider.get_tracer("test").start_span("lost").end()
    began = time.monotonic()
    provider.shutdown()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", ["server.otlp_endpoint", ENDPOINT])
def test_without_the_extra_one_line_says_so(name, environment, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    url = "http://localhost:4318"
    if name == ENDPOINT:
        environment(**{ENDPOINT: url})
    with pytest.raises(UserError, match=rf"^{name}={url}: traces need .*pip install 'quire\[otel\]'$"):
        trace_provider(None if name == ENDPOINT else url, version="1")


def test_other_protocols_and_endpoints_are_refused(environment):
    environment(**{ENDPOINT: "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    with pytest.raises(UserError, match=r"^OTEL_EXPORTER_OTLP_PROTOCOL=grpc: .*http/protobuf"):
        trace_provider(None, version="1")
    with pytest.raises(UserError, match=r"^server\.otlp_endpoint='localhost:4318': must be a URL"):
        compose(["server.otlp_endpoint='localhost:4318'"], load_registry())


def test_nothing_of_it_is_loaded_where_nobody_asks():
    code = """
import sys
import quire.server.http.app, quire.server.process, quire_plugins.tasks.serve
from quire.server.otlp import trace_provider
assert trace_provider(None, version="1") is None
print([name for name in sys.modules if name.startswith("opentelemetry.sdk")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
