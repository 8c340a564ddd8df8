"""Where traces go: to a collector, by OTLP over HTTP.

OpenTelemetry is an extra, and imported only here and in the layer that makes spans.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from quire.errors import UserError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_OURS = "http/protobuf"
_PATH = "/v1/traces"


def trace_provider(endpoint: str | None, *, version: str) -> TracerProvider | None:
    """What makes tracers whose spans are exported; None unless `endpoint` (`server.otlp_endpoint`) or one of
    OpenTelemetry's own variables names a collector. Those variables hold for the rest, too: the service's
    name, headers, sampling, how much is sent at a time.

    To be shut down at the end, which sends what is left. Raises UserError where that cannot be done.
    """
    asked = _asked(endpoint)
    if asked is None:
        return None
    for name in _PROTOCOLS:
        if os.environ.get(name, _OURS) != _OURS:
            raise UserError(f"{name}={os.environ[name]}: traces are sent by {_OURS} only")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise UserError(f"{asked}: traces need OpenTelemetry: pip install 'quire[otel]'") from None
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "quire"}
    # Without an exit handler: the one who asked for it shuts it down.
    provider = TracerProvider(
        resource=Resource.create({**named, "service.version": version}), shutdown_on_exit=False
    )
    exporter = OTLPSpanExporter(None if endpoint is None else _traces_of(endpoint))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _traces_of(endpoint: str) -> str:
    """Where a collector takes traces; `endpoint` may name that already, as vLLM's option does."""
    return f"{endpoint.rstrip('/').removesuffix(_PATH)}{_PATH}"


def _asked(endpoint: str | None) -> str | None:
    """Who asked for traces, as an option or variable with its value; None if nobody."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if endpoint is not None:
        return f"server.otlp_endpoint={endpoint}"
    if os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    return next((f"{name}={os.environ[name]}" for name in _ENDPOINTS if os.environ.get(name)), None)
