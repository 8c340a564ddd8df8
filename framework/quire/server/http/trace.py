"""What a span tells of a request that asks the model: OpenTelemetry's conventions for generative AI, and for
latencies and counts that these have no name for, the names that vLLM gave them.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from quire.engine.records import RequestRecord
from quire.engine.request import Request

Attributes = dict[str, str | bool | int | float | list[str]]

_TRACE = "quire.trace"
_NOTED = {
    "model": ("gen_ai.request.model", "gen_ai.response.model"),
    "id": ("gen_ai.response.id", "gen_ai.request.id"),
    "stream": ("gen_ai.request.stream",),
    "prompt_tokens": ("gen_ai.usage.input_tokens",),
    "output_tokens": ("gen_ai.usage.output_tokens",),
    "cached_tokens": ("gen_ai.usage.cache_read.input_tokens",),
    "tenant": ("user.id",),
}
"""What the access log's line says, too: its fields, and the attributes that have them."""
_SAMPLING = ("temperature", "top_p", "top_k", "max_tokens", "frequency_penalty", "presence_penalty", "seed")


class Trace:
    """Filled in while a request is answered, if somebody wants to know."""

    def __init__(self) -> None:
        self._requests: Sequence[Request] = ()
        self._records: list[RequestRecord] = []

    def asked(self, requests: Sequence[Request]) -> None:
        """These are the engine's requests: one for each prompt."""
        self._requests = requests

    def ended(self, record: RequestRecord) -> None:
        """A sample has."""
        self._records.append(record)

    def attributes(self, noted: Mapping[str, Any]) -> Attributes:
        """All that is known; `noted` is what the access log will say."""
        told: Attributes = {}
        for field, names in _NOTED.items():
            told |= {name: noted[field] for name in names if field in noted}
        if self._requests:
            told |= _asked(self._requests)
        if self._records:
            told |= _ended(self._records)
        return told


def begin_trace(scope: MutableMapping[str, Any]) -> Trace:
    """From now on, collect what there is to tell of the request that is being answered."""
    trace = scope[_TRACE] = Trace()
    return trace


def trace_of(scope: Mapping[str, Any]) -> Trace | None:
    """That of the request that is being answered; None if nobody wants to know."""
    return scope.get(_TRACE)


def _asked(requests: Sequence[Request]) -> Attributes:
    sampling = requests[0].sampling  # all prompts of an HTTP request have the same
    told: Attributes = {
        f"gen_ai.request.{name}": value
        for name in _SAMPLING
        if (value := getattr(sampling, name)) is not None
    }
    if sampling.stop:
        told["gen_ai.request.stop_sequences"] = list(sampling.stop)
    return told | {
        "gen_ai.request.choice.count": sampling.n,
        "gen_ai.request.n": sampling.n,
        "gen_ai.usage.num_sequences": sampling.n * len(requests),
    }


def _ended(records: Sequence[RequestRecord]) -> Attributes:
    """Latencies in seconds, of all samples together: from the first that did something to the last."""
    arrival = min(record.arrival for record in records)
    scheduled = min((r.first_scheduled for r in records if r.first_scheduled is not None), default=None)
    first = min((record.token_times[0] for record in records if record.token_times), default=None)
    last = max((record.token_times[-1] for record in records if record.token_times), default=None)
    finish = max((record.finish for record in records if record.finish is not None), default=None)
    spans = {
        "time_in_queue": (arrival, scheduled),
        "time_to_first_token": (arrival, first),
        "e2e": (arrival, finish),
        "time_in_model_prefill": (scheduled, first),
        "time_in_model_decode": (first, last),
        "time_in_model_inference": (scheduled, last),
    }
    told: Attributes = {
        f"gen_ai.latency.{name}": end - begin
        for name, (begin, end) in spans.items()
        if begin is not None and end is not None
    }
    in_order = sorted(records, key=lambda record: (record.request_id, record.sample))
    return told | {
        "gen_ai.response.finish_reasons": [record.finish_reason or "" for record in in_order],
        "quire.preemptions": sum(record.num_preemptions for record in records),
    }
