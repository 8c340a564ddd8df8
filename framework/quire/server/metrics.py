"""What Prometheus reads at `/metrics`: names that dashboards made for vLLM expect, behind a prefix of choice.

Latencies are the engine's own, from the records of samples that ended; gauges and totals of the engine come
with each `EngineStats`. A metric is in seconds or tokens unless its name says otherwise.
"""

from __future__ import annotations

from itertools import pairwise

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    generate_latest,
)

from quire.engine.records import RequestRecord
from quire.engine.request import Request
from quire.server.client import EngineStats
from quire.server.histogram import BulkHistogram

_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20)
_BETWEEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5)
_REQUEST = (0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
_FINISH_REASONS = ("stop", "length", "abort", "error")


class ServerMetrics:
    """The metrics of one served model, in a registry of their own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, *, model_name: str, prefix: str = "quire") -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._prefix = prefix
        self._labels = {"model_name": model_name}
        self._prompt_tokens = self._counter("prompt_tokens", "Prompt tokens of requests that were served")
        self._cached_tokens = self._counter(
            "prompt_tokens_cached", "Prompt tokens that a cached prefix or a fork spared"
        )
        success = Counter(
            f"{prefix}:request_success",
            "Samples that ended, by reason",
            (*self._labels, "finished_reason"),
            registry=self.registry,
        )
        self._success = {  # present from the start, so that a rate has its zero
            reason: success.labels(**self._labels, finished_reason=reason) for reason in _FINISH_REASONS
        }
        self._histograms = {
            name: self._histogram(name, text, buckets)
            for name, text, buckets in (
                ("time_to_first_token_seconds", "Arrival to first token", _FIRST_TOKEN),
                ("request_time_per_output_token_seconds", "Mean over the gaps of a sample", _BETWEEN),
                ("e2e_request_latency_seconds", "Arrival to the end", _REQUEST),
                ("request_queue_time_seconds", "Arrival to first step", _REQUEST),
                ("request_prefill_time_seconds", "First step to first token", _REQUEST),
                ("request_decode_time_seconds", "First token to last", _REQUEST),
                ("request_inference_time_seconds", "First step to last token", _REQUEST),
                ("request_prompt_tokens", "Prompt tokens of a sample", _TOKENS),
                ("request_generation_tokens", "Tokens generated for a sample", _TOKENS),
                ("inter_token_latency_seconds", "Between two tokens of a sample", _BETWEEN),
            )
        }
        self._gauges = {
            name: self._gauge(name, text)
            for name, text in (
                ("num_requests_running", "Sequences that hold memory"),
                ("num_requests_waiting", "Sequences that wait for memory"),
                ("kv_cache_usage_perc", "Fraction of the KV blocks that sequences hold, 0 to 1"),
                ("engine_up", "1 while the engine answers"),
            )
        }
        self._totals = {
            name: self._counter(name, text)
            for name, text in (
                ("generation_tokens", "Tokens generated"),
                ("prefix_cache_queries", "Prompt tokens looked for in the prefix cache"),
                ("prefix_cache_hits", "Prompt tokens found in the prefix cache"),
                ("num_preemptions", "Sequences that had to give their memory back"),
                ("engine_steps", "Steps of the model"),
                ("engine_step_seconds", "Time in steps"),
                ("engine_schedule_seconds", "Time in the scheduler"),
                ("engine_restarts", "Engines started again after a death"),
            )
        }
        self._last = EngineStats()

    def observe(self, request: Request, record: RequestRecord) -> None:
        """A sample has ended. To be given to `EngineClient.observe`."""
        del request
        reason = record.finish_reason
        assert reason is not None, "a record is handed out at the end"
        self._success[reason].inc()
        if record.sample == 0:
            self._prompt_tokens.inc(record.num_prompt_tokens)
        self._cached_tokens.inc(record.num_cached_tokens)
        if reason in ("stop", "length"):
            self._observe_latencies(record)

    def update(self, stats: EngineStats | None) -> None:
        """The engine's counts as of now; None if it does not answer."""
        self._gauges["engine_up"].set(stats is not None)
        now = stats or EngineStats(restarts=self._last.restarts)
        self._gauges["num_requests_running"].set(now.running)
        self._gauges["num_requests_waiting"].set(now.waiting)
        self._gauges["kv_cache_usage_perc"].set(now.kv_usage)
        if stats is None:
            return
        fresh = stats.restarts != self._last.restarts  # a new engine counts from 0
        before = EngineStats(restarts=self._last.restarts) if fresh else self._last
        for name, field in (
            ("generation_tokens", "generated_tokens"),
            ("prefix_cache_queries", "prefix_queries"),
            ("prefix_cache_hits", "prefix_hits"),
            ("num_preemptions", "preemptions"),
            ("engine_steps", "steps"),
            ("engine_step_seconds", "busy_seconds"),
            ("engine_schedule_seconds", "schedule_seconds"),
            ("engine_restarts", "restarts"),
        ):
            self._totals[name].inc(getattr(stats, field) - getattr(before, field))
        self._last = stats

    def render(self) -> bytes:
        """The text that Prometheus reads; its type is `content_type`."""
        return generate_latest(self.registry)

    def _observe_latencies(self, record: RequestRecord) -> None:
        times, scheduled, finish = record.token_times, record.first_scheduled, record.finish
        assert times, "it was completed"
        assert scheduled is not None, "it was completed"
        assert finish is not None, "it was completed"
        observed = {
            "time_to_first_token_seconds": times[0] - record.arrival,
            "e2e_request_latency_seconds": finish - record.arrival,
            "request_queue_time_seconds": scheduled - record.arrival,
            "request_prefill_time_seconds": times[0] - scheduled,
            "request_decode_time_seconds": times[-1] - times[0],
            "request_inference_time_seconds": times[-1] - scheduled,
            "request_prompt_tokens": record.num_prompt_tokens,
            "request_generation_tokens": len(times),
        }
        if len(times) > 1:
            mean = (times[-1] - times[0]) / (len(times) - 1)
            observed["request_time_per_output_token_seconds"] = mean
        for name, value in observed.items():
            self._histograms[name].observe((value,))
        gaps = (later - earlier for earlier, later in pairwise(times))
        self._histograms["inter_token_latency_seconds"].observe(gaps)

    def _counter(self, name: str, text: str) -> Counter:
        made = Counter(f"{self._prefix}:{name}", text, tuple(self._labels), registry=self.registry)
        return made.labels(**self._labels)

    def _gauge(self, name: str, text: str) -> Gauge:
        made = Gauge(f"{self._prefix}:{name}", text, tuple(self._labels), registry=self.registry)
        return made.labels(**self._labels)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> BulkHistogram:
        return BulkHistogram(
            f"{self._prefix}:{name}", text, labels=self._labels, buckets=buckets, registry=self.registry
        )
