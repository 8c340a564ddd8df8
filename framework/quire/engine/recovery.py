"""Recovery: what becomes of the sequences of a step that failed."""

from __future__ import annotations

import logging

from quire.engine.delivery import Delivery
from quire.engine.flight import Flight
from quire.engine.roster import Roster
from quire.engine.sequence import FinishReason
from quire.interfaces.allocator import KVAllocator
from quire.interfaces.executor import OutOfDeviceMemory

_log = logging.getLogger(__name__)


class Recovery:
    """Whatever breaks a step breaks its sequences, and no others; want of memory need not break any."""

    def __init__(
        self, *, roster: Roster, allocator: KVAllocator, delivery: Delivery, max_step_tokens: int
    ) -> None:
        self._roster = roster
        self._allocator = allocator
        self._delivery = delivery
        self.step_tokens = max_step_tokens
        """Tokens in a step at most: fewer after one that took more memory than the device has."""

    def recover(self, flight: Flight, error: Exception) -> int:
        """A step brought nothing but `error`. Returns how many of its sequences were preempted."""
        step = flight.plan.index
        if not isinstance(error, OutOfDeviceMemory):
            self._break_off(flight, f"step {step} failed: {type(error).__name__}: {error}")
        elif flight.plan.num_tokens == 1:
            self._break_off(flight, f"step {step}, of one token: {error}")
        else:
            return self._retreat(flight, error)
        return 0

    def _break_off(self, flight: Flight, reason: str) -> None:
        for sequence in flight.living():
            self._delivery.finish(sequence, FinishReason.ERROR, reason)

    def _retreat(self, flight: Flight, error: OutOfDeviceMemory) -> int:
        """Its sequences wait again, and from now on steps take half as many tokens, for good: what such a
        step loses would be lost at every try to grow again.
        """
        sequences = list(flight.living())
        for sequence in sequences:
            self._allocator.free(sequence.view)
            self._roster.preempt(sequence)
        self.step_tokens = min(self.step_tokens, flight.plan.num_tokens // 2)
        _log.warning(
            "step %d of %d tokens: %s; its %d sequences wait again, and steps now take up to %d tokens",
            flight.plan.index,
            flight.plan.num_tokens,
            error,
            len(sequences),
            self.step_tokens,
        )
        return len(sequences)
