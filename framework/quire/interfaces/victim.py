"""The victim policy chooses who gives way where memory lacks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from quire.engine.sequence import SequenceView
    from quire.interfaces.predictor import LengthPredictor


class VictimPolicy(ABC):
    """Chooses whom a scheduler preempts. Any of them goes with any scheduler.

    The scheduler says who may be chosen, so that whom it ranks first always gets on; the victim policy says
    which of those it is.
    """

    Config: type[Any]

    uses_predictor: ClassVar[bool] = False
    """Whether it is constructed with `predictor=`, and keeps it as `self.predictor`."""
    predictor: LengthPredictor | None = None

    @abstractmethod
    def choose(self, candidates: Sequence[SequenceView]) -> SequenceView:
        """One of `candidates`: running sequences, at least one, in the scheduler's own order, whom it would
        serve first comes first. Called by the step, for the scheduler. Pure.
        """
