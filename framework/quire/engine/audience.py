"""The audience of an engine: who is told which sequences come and go."""

from __future__ import annotations

from quire.engine.sequence import Sequence
from quire.errors import RequestRefused, UserError
from quire.interfaces.scheduler import Scheduler
from quire.interfaces.victim import VictimPolicy


class Audience:
    """The scheduler, and each predictor that it or the victim policy uses, once if they share it.

    Predictors hear of a sequence before any policy can ask them about it.
    """

    def __init__(self, *, scheduler: Scheduler, victims: VictimPolicy | None) -> None:
        self._scheduler = scheduler
        used = (scheduler.predictor, None if victims is None else victims.predictor)
        self._predictors = tuple({id(each): each for each in used if each is not None}.values())

    def check(self, sequence: Sequence, now: float) -> None:
        """A request's first sequence is about to enter. Raises RequestRefused if somebody refuses it."""
        try:
            self._scheduler.check(sequence.view, now)
            for predictor in self._predictors:
                predictor.on_arrival(sequence.view, sequence.request)
        except UserError as error:
            raise RequestRefused(f"request {sequence.request.id!r}: {error}") from None

    def entered(self, sequence: Sequence) -> None:
        """That sequence waits now."""
        self._scheduler.on_arrival(sequence.view)

    def forked(self, sequence: Sequence) -> None:
        """A sequence has come that shares the prompt of one that they know."""
        for predictor in self._predictors:
            predictor.on_arrival(sequence.view, sequence.request)
        self._scheduler.on_arrival(sequence.view)

    def ended(self, sequence: Sequence, output_tokens: int | None) -> None:
        """The roster has forgotten a sequence; `output_tokens` if it came to its own end."""
        for predictor in self._predictors:
            predictor.on_finish(sequence.view, output_tokens)
        self._scheduler.on_finish(sequence.view)
