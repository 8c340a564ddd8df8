"""Feeding an engine: requests as their time comes, until all have ended."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from quire.engine.engine import Engine
from quire.engine.outputs import SequenceOutput
from quire.engine.records import RequestRecord
from quire.engine.request import Request
from quire.engine.sequence import FinishReason
from quire.errors import RequestRefused

Follow = Callable[[Request, Sequence[int], FinishReason, float], Iterable[Request]]
"""The requests that the end of one sets off: `Workload.on_end`."""


def serve(
    engine: Engine,
    requests: Iterable[Request],
    *,
    max_waiting: int | None = None,
    follow: Follow | None = None,
    whole: bool = False,
) -> Iterator[list[SequenceOutput]]:
    """Serve `requests` (in order of arrival) and yield what each step brings, a refusal as an ERROR. With
    `whole` that is nothing of a sample before it has ended, then all of it in one piece.

    The load is open: a request is added when its `arrival_time`, in seconds from now, has come, however many
    are served. One without an arrival time is added at once, or when fewer than `max_waiting` wait, so that
    an input longer than memory is read as it is needed. What `follow` makes of a request that ended joins
    them, before the output that ended it is yielded.
    """
    origin = engine.clock.now()
    upcoming = _Upcoming(requests)
    living = None if follow is None else _Living(follow, upcoming)
    while upcoming or engine.has_work:
        news: list[SequenceOutput] = []
        now = engine.clock.now()
        while (request := upcoming.due(now, origin)) is not None:
            if request.arrival_time is None and max_waiting is not None and engine.num_waiting >= max_waiting:
                break
            upcoming.pop()
            if living is not None:
                living.add(request)
            news += _add(engine, _shifted(request, origin), whole=whole)
        if stepped := engine.has_work:
            news += engine.step()
        elif not news and (arrival := upcoming.next_arrival()) is not None:
            engine.clock.sleep_until(origin + arrival)
        if living is not None and news:
            living.end(news, engine.clock.now() - origin)
        if news or stepped:
            yield news


class _Upcoming:
    """Requests to come: those of the stream, and those that others set off, by time of arrival. One without
    an arrival time is due at once, before the others.
    """

    def __init__(self, requests: Iterable[Request]) -> None:
        self._stream = iter(requests)
        self._head = next(self._stream, None)
        self._set_off: list[tuple[float, int, Request]] = []
        self._pushed = 0

    def __bool__(self) -> bool:
        return self._head is not None or bool(self._set_off)

    def push(self, request: Request) -> None:
        """One more, that is not of the stream."""
        heapq.heappush(self._set_off, (_arrival(request), self._pushed, request))
        self._pushed += 1

    def next_arrival(self) -> float | None:
        """When the next one arrives."""
        request = self._first()
        return None if request is None else request.arrival_time

    def due(self, now: float, origin: float) -> Request | None:
        """The next one, if it has arrived by `now`; its time counts from `origin`."""
        request = self._first()
        # the very sum that is slept until: `now - origin` may be rounded to less than the arrival time
        return None if request is None or origin + _arrival(request) > now else request

    def pop(self) -> None:
        """The next one is taken."""
        if self._set_off_is_first():
            heapq.heappop(self._set_off)
        else:
            self._head = next(self._stream, None)

    def _first(self) -> Request | None:
        return self._set_off[0][2] if self._set_off_is_first() else self._head

    def _set_off_is_first(self) -> bool:
        return bool(self._set_off) and (self._head is None or self._set_off[0][0] < _arrival(self._head))


class _Living:
    """What requests that were added came to so far, until they end and set off others."""

    def __init__(self, follow: Follow, upcoming: _Upcoming) -> None:
        self._follow = follow
        self._upcoming = upcoming
        self._progress: dict[str, _Progress] = {}

    def add(self, request: Request) -> None:
        self._progress[request.id] = _Progress(request=request, samples_left=request.sampling.n)

    def end(self, news: Iterable[SequenceOutput], now: float) -> None:
        """Take what a step brought; let those follow that its ends set off."""
        for output in news:
            progress = self._progress[output.request_id]
            if output.index == 0:
                progress.token_ids.extend(output.token_ids)
            if output.finish_reason is None:
                continue
            progress.samples_left -= 1
            if output.index == 0:
                progress.reason = output.finish_reason
            if progress.samples_left == 0:
                del self._progress[output.request_id]
                for request in self._follow(progress.request, progress.token_ids, progress.reason, now):
                    self._upcoming.push(request)


@dataclass(kw_only=True, slots=True)
class _Progress:
    """One living request. `reason` is why its first sample ended."""

    request: Request
    samples_left: int
    token_ids: list[int] = field(default_factory=list[int])
    reason: FinishReason = FinishReason.ERROR


def _arrival(request: Request) -> float:
    return float("-inf") if request.arrival_time is None else request.arrival_time


def _shifted(request: Request, origin: float) -> Request:
    """The request on the engine's clock; its times counted from `origin`."""
    if request.arrival_time is None:
        return request
    deadline = None if request.deadline is None else request.deadline + origin
    return replace(request, arrival_time=request.arrival_time + origin, deadline=deadline)


def _add(engine: Engine, request: Request, *, whole: bool) -> list[SequenceOutput]:
    try:
        engine.add(request, whole=whole)
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
                    num_samples=request.sampling.n,
                    finish=now,
                    finish_reason=FinishReason.ERROR.value,
                    error=error,
                ),
            )
            for index in range(request.sampling.n)
        ]
