"""The server's options, `server.*` on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from quire.engine.config import parse_bytes
from quire.errors import UserError
from quire.server.limits import EngineLimits
from quire.server.tools.choose import ToolFormatName

_AT_LEAST_ONE = ("max_choices", "max_prompts", "max_prompt_tokens", "max_concurrent")
_POSITIVE = ("body_seconds", "send_seconds", "keep_alive_seconds")


@dataclass
class ServerConfig:
    """Where the server listens, who may ask, and how much."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""
    port: int = 8000
    """0 takes any that is free."""
    served_names: list[str] = field(default_factory=list[str])
    """What clients may call the model; the first is the one listed. None: the value of `model`."""
    api_keys_file: str | None = None
    """A file of keys, one a line, blank lines and those after # left out. Keys in the environment variable
    QUIRE_API_KEYS, separated by commas, count too. With no key at all everybody may ask."""
    cors_origins: list[str] = field(default_factory=list[str])
    """Origins whose pages may ask from a browser, or "*"; none: pages of this server only."""
    max_body: str = "16MiB"
    """Size of a request's body; what is larger is refused while it is read."""
    max_prompt_tokens: int | None = None
    """Longest prompt; null: whatever the engine admits."""
    max_choices: int = 64
    """Largest `n` and `best_of` of a request."""
    max_prompts: int = 2048
    """Most prompts, inputs or documents in one request."""
    max_logprobs: int = 20
    """Most alternatives a token that `logprobs` and `top_logprobs` may ask for."""
    max_concurrent: int = 2048
    """Requests in progress, streams included; those above are refused with 429."""
    tool_format: ToolFormatName = ToolFormatName.auto
    """How the model writes calls of tools; auto goes by its chat template, none refuses them."""
    body_seconds: float = 60.0
    """Longest time that a client may take to send a request's body; before it, as long for the first head."""
    send_seconds: float = 300.0
    """A client that takes nothing of its answer for this long is dropped."""
    keep_alive_seconds: float = 15.0
    """A stream that waits for its next token this long gets a comment, so that nobody in between hangs up."""
    drain_seconds: float = 30.0
    """On SIGTERM, time for requests in progress to end."""
    limits: EngineLimits = field(default_factory=EngineLimits)
    """Of the queue, of a request's time, of restarts."""
    metrics_prefix: str = "quire"
    """What metrics' names begin with: `vllm` makes them those that vLLM's dashboards expect."""
    otlp_endpoint: str | None = None
    """Collector that a span of each request is sent to, by OTLP over HTTP: http://localhost:4318, to which
    /v1/traces is added. null: none, unless OpenTelemetry's own OTEL_EXPORTER_OTLP_ENDPOINT names one. Needs
    the extra `otel`."""
    access_log: str | None = None
    """One JSON line a request; null: access.jsonl among the run's results."""
    log_prompts: bool = False
    """Write each request's body into its line, too. It is what users typed."""

    def __post_init__(self) -> None:
        if not self.host:
            raise UserError("server.host='': must be an address or a name")
        if not 0 <= self.port <= 65535:
            raise UserError(f"server.port={self.port}: must be in 0..65535")
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"server.{name}={value}: must be at least 1")
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise UserError(f"server.{name}={getattr(self, name)}: must be more than 0 seconds")
        if not self.drain_seconds >= 0:
            raise UserError(f"server.drain_seconds={self.drain_seconds}: must be at least 0")
        if self.max_logprobs < 0:
            raise UserError(f"server.max_logprobs={self.max_logprobs}: must be at least 0")
        if not all(self.served_names):
            raise UserError(f"server.served_names={self.served_names}: must be names that are not empty")
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", self.metrics_prefix):
            raise UserError(
                f"server.metrics_prefix={self.metrics_prefix!r}: must be letters, digits and underscores"
            )
        if self.otlp_endpoint is not None and not re.match(r"https?://[^/]", self.otlp_endpoint):
            raise UserError(
                f"server.otlp_endpoint={self.otlp_endpoint!r}: must be a URL such as http://localhost:4318"
            )
        parse_bytes(self.max_body, field="server.max_body")

    @property
    def max_body_bytes(self) -> int:
        return parse_bytes(self.max_body, field="server.max_body")
