"""What a request did at any time: the spans of its timeline.

arrival    first_scheduled   token 0          preempted     resumed    next token      finish
   |-- queued --|-- prefill --|---- decode ----|- preempted -|- prefill -|-- decode --|
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from quire.engine.records import RequestRecord

STATES = ("queued", "prefill", "decode", "preempted")


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds from `start` to `end` in `state`, one of `STATES`."""

    state: str
    start: float
    end: float


def spans_of(record: RequestRecord) -> list[Span]:
    """The spans of a sample from its arrival to its end, without gaps; those of no length are left out."""
    end = record.finish
    if end is None:
        end = max([record.arrival, *record.token_times[-1:], *record.resumed[-1:]])
    if record.first_scheduled is None:
        return _lasting([Span("queued", record.arrival, end)])
    spans = [Span("queued", record.arrival, record.first_scheduled)]
    starts = [record.first_scheduled, *record.resumed]
    stops = [*record.preempted, end][: len(starts)]
    for place, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        token = bisect_right(record.token_times, start)
        # the step that was under way when it was preempted may not count: then it computed to no avail
        first = record.token_times[token] if token < len(record.token_times) else stop
        computed = min(first, stop)
        spans += [Span("prefill", start, computed), Span("decode", computed, stop)]
        if place < len(record.preempted):
            resumed = record.resumed[place] if place < len(record.resumed) else end
            spans.append(Span("preempted", stop, resumed))
    return _lasting(spans)


def _lasting(spans: list[Span]) -> list[Span]:
    return [span for span in spans if span.end > span.start]
