"""Admission by the memory that the batch will need at its peak (Gong et al., "Past-Future Scheduler for LLM
Serving under SLA Guarantees", ASPLOS 2025, section 3).

Sort the batch by the output tokens still to come, r_1 >= r_2 >= ... When sequence i ends, those before it
still run and have each grown by r_i, so that memory then holds

    M_i = sum over j <= i of (tokens that j has now + r_i)

and the peak is the largest of them. A request is admitted while the peak with it fits.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

from quire.engine.queues import QueueView
from quire.engine.sequence import SequenceView
from quire.engine.step import StepBuilder
from quire.errors import UserError
from quire.interfaces import LengthPredictor, Scheduler
from quire.rng import derive_seed, uniform
from quire.scheduling import keep_running


@dataclass
class PastFutureConfig:
    """How much memory the forecast leaves. `predictor=` says where output lengths come from; the paper's is
    `predictor=history`."""

    reserve: float = 0.05
    """Fraction of KV memory that stays free at the predicted peak, in [0, 1), against outputs that become
    longer than predicted."""

    def __post_init__(self) -> None:
        if not 0 <= self.reserve < 1:
            raise UserError(f"scheduler.reserve={self.reserve}: must be in [0, 1)")


class PastFuture(Scheduler):
    """First come, first served; a request enters if the memory forecast with it never exceeds what there
    is."""

    Config = PastFutureConfig
    uses_predictor = True

    def __init__(self, *, config: PastFutureConfig, predictor: LengthPredictor) -> None:
        self._reserve = config.reserve
        self.predictor: LengthPredictor = predictor
        self._draws: dict[int, float] = {}
        """Uniform in (0, 1), one for each living sequence."""

    def on_arrival(self, seq: SequenceView) -> None:
        self._draws[seq.order] = max(uniform(derive_seed("past_future", seq.id), 0), 2.0**-53)

    def on_finish(self, seq: SequenceView) -> None:
        del self._draws[seq.order]

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        if not keep_running(queues, step):
            return
        capacity = (1 - self._reserve) * step.kv_tokens
        batch = sorted(self._forecast(seq) for seq in queues.running)
        for seq in queues.waiting:
            insort(batch, self._forecast(seq))
            if len(batch) > 1 and peak(batch, step) > capacity:
                break
            if not step.add(seq):
                break

    def _forecast(self, seq: SequenceView) -> tuple[float, int]:
        """Minus the tokens still to come, and those that are there.

        The length is a draw from its distribution, as in the paper, one draw for each sequence: the peak
        of the batch is then a draw too, while a high quantile of every length would hardly ever be reached.
        """
        length = self.predictor.quantile(seq, self._draws[seq.order])
        return seq.num_output_tokens - length, seq.num_tokens


def peak(batch: Sequence[tuple[float, int]], step: StepBuilder) -> float:
    """Tokens of room that `batch` takes at most, in order of how many each is still to generate, most
    first."""
    held, most = 0, 0.0
    unfilled = step.kv_room(1) - 1  # a sequence's last block has room left: at most so many tokens
    for number, (minus_left, tokens) in enumerate(batch, start=1):
        held += tokens + unfilled
        most = max(most, held - number * minus_left)
    return most
