"""The scheduler decides which sequences compute how many tokens in the next step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from quire.engine.queues import QueueView
    from quire.engine.records import StepRecord
    from quire.engine.sequence import SequenceView
    from quire.engine.step import StepBuilder
    from quire.interfaces.predictor import LengthPredictor


class Scheduler(ABC):
    """Orders the work of each step. A schedule is sequence -> number of tokens; nothing else exists.

    Whole prefill, chunk, decode and draft are the same call, `step.add(seq, tokens)`. The builder keeps
    every schedule legal (token and sequence budgets, KV memory, no sequence twice, none both run and
    preempted), so that a policy holds nothing but its idea.
    """

    Config: type[Any]
    """The policy's options: a module-level dataclass; Hydra shows, types and overrides its fields."""

    uses_predictor: ClassVar[bool] = False
    """Whether it is constructed with `predictor=`, and keeps it as `self.predictor`."""
    predictor: LengthPredictor | None = None

    @abstractmethod
    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        """Fill `step` from `queues`. Called by the engine before each step, also while the last one runs.

        Nothing seen here may be changed except through `step`. Leaving a running sequence out pauses it:
        it keeps its memory. The engine calls again for as long as sequences wait or run; a policy that adds
        nothing although something could be added is stuck, and the engine says so.
        """

    def check(self, seq: SequenceView, now: float) -> None:  # noqa: B027 - optional hook
        """Raise UserError if a request cannot be served by this policy (a deadline that has passed, a tenant
        without a weight): it is then refused with that message. Called by the engine before the request
        enters, at time `now`. Changes nothing.
        """

    def on_arrival(self, seq: SequenceView) -> None:  # noqa: B027 - optional hook
        """A sequence came: a request's first, or a sample forked from it. Called by the engine."""

    def on_finish(self, seq: SequenceView) -> None:  # noqa: B027 - optional hook
        """A sequence ended, for whatever reason. Called by the engine after its memory was freed."""

    def on_step(self, record: StepRecord) -> None:  # noqa: B027 - optional hook
        """A step was computed and committed: its durations and counts. Called by the engine."""
