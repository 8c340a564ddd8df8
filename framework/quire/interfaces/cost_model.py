"""A cost model foretells how long a step takes, from its shape alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from quire.engine.shape import StepShape


class CostModel(ABC):
    """Learned from the steps of real runs by `quire calibrate`, read back by the simulated executor.

    Constructed with `config`, and with `parameters` where they are at hand already; else it reads them from
    the calibration file that its config names.
    """

    Config: type[Any]

    @classmethod
    @abstractmethod
    def fit(cls, *, config: Any, shapes: Sequence[StepShape], seconds: Sequence[float]) -> Self:
        """The model of these steps. Called by `quire calibrate`; raises UserError if they are too few."""

    @abstractmethod
    def parameters(self) -> Mapping[str, Any]:
        """What the model learned, as plain data that JSON can hold; the constructor takes it back."""

    @abstractmethod
    def seconds(self, shape: StepShape) -> float:
        """How long a step of that shape takes; more than 0. Called once a simulated step: microseconds."""
