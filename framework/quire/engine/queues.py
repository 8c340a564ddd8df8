"""The two queues, waiting and running, in order of arrival; and what a policy sees of them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from operator import attrgetter

from quire.engine.sequence import Sequence, SequenceView

_by_order = attrgetter("order")


class SequenceQueue:
    """Sequences sorted by order of arrival. Only the engine changes it."""

    def __init__(self) -> None:
        self._items: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._items)

    def add(self, sequence: Sequence) -> None:
        insort(self._items, sequence, key=_by_order)

    def remove(self, sequence: Sequence) -> None:
        place = bisect_left(self._items, sequence.order, key=_by_order)
        assert self._items[place] is sequence, f"{sequence.id} is not in this queue"
        del self._items[place]


class WaitingView:
    """Sequences that hold no memory, earliest first. A preempted one stands where it arrived."""

    def __init__(self, queue: SequenceQueue) -> None:
        self._queue = queue

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[SequenceView]:
        return (sequence.view for sequence in self._queue)


class RunningView:
    """Sequences that hold memory and have something to compute, earliest first.

    Preempting one takes it out at once, also from an iteration under way. A sequence whose last token is in
    flight is not among them.
    """

    def __init__(self, sequences: list[Sequence]) -> None:
        self._views = {sequence.id: sequence.view for sequence in sequences}

    def __len__(self) -> int:
        return len(self._views)

    def __iter__(self) -> Iterator[SequenceView]:
        return (view for view in tuple(self._views.values()) if view.id in self._views)

    def __contains__(self, seq: SequenceView) -> bool:
        return seq.id in self._views

    def latest(self) -> SequenceView:
        """The last to arrive of those still running; there must be one."""
        return next(reversed(self._views.values()))

    def _drop(self, seq: SequenceView) -> None:
        self._views.pop(seq.id, None)


class QueueView:
    """Both queues as a policy sees them: as of the latest call of `schedule`, and what that has preempted."""

    def __init__(self, *, waiting: WaitingView, running: RunningView, now: float) -> None:
        self._waiting = waiting
        self._running = running
        self._now = now

    def _refresh(self, *, running: RunningView, now: float) -> None:
        """Another call of `schedule` begins."""
        self._running = running
        self._now = now

    @property
    def waiting(self) -> WaitingView:
        return self._waiting

    @property
    def running(self) -> RunningView:
        return self._running

    @property
    def now(self) -> float:
        """Seconds on the engine's clock when scheduling began: the only time a policy knows."""
        return self._now
