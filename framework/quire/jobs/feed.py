"""Feeding an engine: requests as their time comes, until all have ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from quire.engine.engine import Engine
from quire.engine.outputs import SequenceOutput
from quire.engine.records import RequestRecord
from quire.engine.request import Request
from quire.engine.sequence import FinishReason
from quire.errors import RequestRefused


def serve(
    engine: Engine, requests: Iterable[Request], *, max_waiting: int | None = None
) -> Iterator[list[SequenceOutput]]:
    """Serve `requests` (in order of arrival) and yield what each step brings, a refusal as an ERROR.

    The load is open: a request is added when its `arrival_time`, in seconds from now, has come, however many
    are served. One without an arrival time is added at once, or when fewer than `max_waiting` wait, so that
    an input longer than memory is read as it is needed.
    """
    origin = engine.clock.now()
    upcoming = iter(requests)
    request = next(upcoming, None)
    while request is not None or engine.has_work:
        news: list[SequenceOutput] = []
        elapsed = engine.clock.now() - origin
        while request is not None and _is_due(request, elapsed):
            if request.arrival_time is None and max_waiting is not None and engine.num_waiting >= max_waiting:
                break
            news += _add(engine, _shifted(request, origin))
            request = next(upcoming, None)
        if engine.has_work:
            news += engine.step()
        elif request is not None and request.arrival_time is not None:
            engine.clock.sleep_until(origin + request.arrival_time)
        if news:
            yield news


def _is_due(request: Request, elapsed: float) -> bool:
    return request.arrival_time is None or request.arrival_time <= elapsed


def _shifted(request: Request, origin: float) -> Request:
    """The request on the engine's clock; its times counted from `origin`."""
    if request.arrival_time is None:
        return request
    deadline = None if request.deadline is None else request.deadline + origin
    return replace(request, arrival_time=request.arrival_time + origin, deadline=deadline)


def _add(engine: Engine, request: Request) -> list[SequenceOutput]:
    try:
        engine.add(request)
        return []
    except RequestRefused as refusal:
        now, error = engine.clock.now(), str(refusal)
        return [
            SequenceOutput(
                request_id=request.id,
                index=index,
                token_ids=(),
                text="",
                finish_reason=FinishReason.ERROR,
                error=error,
                record=RequestRecord(
                    request_id=request.id,
                    sample=index,
                    tenant=request.tenant,
                    arrival=now if request.arrival_time is None else request.arrival_time,
                    num_prompt_tokens=len(request.prompt_token_ids),
                    finish=now,
                    finish_reason=FinishReason.ERROR.value,
                    error=error,
                ),
            )
            for index in range(request.sampling.n)
        ]
