"""Moves that many schedulers share. A rank is any key that can be compared: the smallest goes first."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter, itemgetter
from typing import Any

from quire.engine.queues import QueueView
from quire.engine.sequence import SequenceView, Status
from quire.engine.step import Lack, StepBuilder

Rank = Callable[[SequenceView], Any]
"""Where a sequence stands in a policy's order; no two may be equal, so that the order is total."""

by_arrival: Rank = attrgetter("order")


def add_or_preempt(
    seq: SequenceView,
    queues: QueueView,
    step: StepBuilder,
    tokens: int | None = None,
    *,
    rank: Rank = by_arrival,
) -> int:
    """Let a running `seq` compute up to `tokens` tokens (None: all that remain) and return how many it got.

    Where no block is left, one of those that rank after it gives way, the one that the run's victim policy
    chooses, and at last `seq` itself (Kwon et al., PagedAttention, SOSP 2023, section 4.5). Whoever ranks
    first therefore always gets on.
    """
    while seq in queues.running:
        grant = step.add(seq, tokens)
        if not grant.lacks_memory:
            return grant.tokens
        step.preempt(step.victim(_after(seq, queues, rank) or [seq]))
    return 0


def keep_running(queues: QueueView, step: StepBuilder, *, rank: Rank = by_arrival) -> bool:
    """Let the running sequences go on, in order of rank; whether all could.

    If one gave way there is no memory for anyone who waits, and who gave way should come back first.
    """
    running = sorted(queues.running, key=rank)
    for seq in running:
        add_or_preempt(seq, queues, step, rank=rank)
    return len(queues.running) == len(running)


def serve_by_rank(
    queues: QueueView, step: StepBuilder, waiting: Iterable[SequenceView], *, rank: Rank, preempt: bool = True
) -> None:
    """Serve the running sequences and `waiting` (in order of rank) in one order.

    A waiting one for which there is no memory or no place takes those of running ones that rank after it,
    unless `preempt` is false. One that still cannot start is not overtaken by others that wait. Looks at as
    many of `waiting` as are needed, so the cost is that of sorting the running ones.
    """
    running = deque(sorted(((rank(seq), seq) for seq in queues.running), key=itemgetter(0)))
    for seq in waiting:
        place = rank(seq)
        while running and running[0][0] < place:
            add_or_preempt(running.popleft()[1], queues, step, rank=rank)
        if not _start(seq, queues, step, rank, preempt):
            break
    for _, seq in running:
        add_or_preempt(seq, queues, step, rank=rank)


def _start(seq: SequenceView, queues: QueueView, step: StepBuilder, rank: Rank, preempt: bool) -> bool:
    """Take a waiting sequence into the step, in the place of lower ranks if need be."""
    grant = step.add(seq)
    if grant or not preempt or grant.lack is Lack.TOKENS:
        return bool(grant)
    candidates = _after(seq, queues, rank)
    if grant.lacks_memory:  # nobody gives way in vain, as far as blocks that others share allow to tell
        stats = step.kv
        room = step.kv_tokens * (stats.free + stats.cached) // stats.total
        room += sum(step.kv_room(other.num_computed) for other in candidates)
        if room < seq.num_tokens - step.cached_tokens(seq):
            return False
    while candidates and not grant and grant.lack is not Lack.TOKENS:
        victim = step.victim(candidates)
        candidates.remove(victim)
        step.preempt(victim)
        grant = step.add(seq)
    return bool(grant)


def _after(seq: SequenceView, queues: QueueView, rank: Rank) -> list[SequenceView]:
    """The running sequences that rank after `seq`, in order."""
    place = rank(seq)
    return sorted((other for other in queues.running if rank(other) > place), key=rank)


class RankedQueue:
    """Living sequences by a key that the policy gives them, the smallest first; equal keys by arrival.

    For a policy whose order does not change while a sequence waits: it sorts once, when the sequence comes
    (`on_arrival`), instead of in every step. A priority that grows with the time waited is such an order:
    p - a * (now - arrival) sorts as p + a * arrival does, whatever the time. `put` and `discard` take
    O(log n) comparisons and a move in memory.
    """

    def __init__(self) -> None:
        self._items: list[tuple[Any, int, SequenceView]] = []
        self._keys: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._items)

    def put(self, seq: SequenceView, key: Any) -> None:
        """Let `seq` in, or give it another key."""
        self.discard(seq)
        self._keys[seq.order] = key
        insort(self._items, (key, seq.order, seq))

    def rekey(self, key: Rank) -> None:
        """Give every sequence another key; sorts once."""
        self._keys = {seq.order: key(seq) for _, _, seq in self._items}
        self._items = sorted((self._keys[order], order, seq) for _, order, seq in self._items)

    def discard(self, seq: SequenceView) -> None:
        """Forget `seq`, if it is here."""
        if seq.order in self._keys:
            key = self._keys.pop(seq.order)
            del self._items[bisect_left(self._items, (key, seq.order))]

    def key(self, seq: SequenceView) -> Any:
        """The key that `seq` was put in with."""
        return self._keys[seq.order]

    def rank(self, seq: SequenceView) -> tuple[Any, int]:
        """Where `seq` stands in this queue's order, whether it waits or runs: a `Rank`."""
        return self._keys[seq.order], seq.order

    def waiting(self) -> Iterator[SequenceView]:
        """Those that wait, in order. The queue must not change meanwhile."""
        return (seq for _, _, seq in self._items if seq.status is Status.WAITING)
