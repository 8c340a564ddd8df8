"""The true output length, for an upper bound on what any predictor could bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces import LengthPredictor

if TYPE_CHECKING:
    from quire.engine.request import Request
    from quire.engine.sequence import SequenceView


@dataclass
class OracleConfig:
    """It has no options."""


def true_length(request: Request) -> int:
    """Output tokens that every sample of `request` will come to. Raises UserError if nobody can know."""
    if request.forced_output_tokens is not None:
        return request.forced_output_tokens
    sampling = request.sampling
    if (
        sampling.max_tokens is not None
        and sampling.ignore_eos
        and not (sampling.stop or sampling.stop_token_ids)
    ):
        return sampling.max_tokens
    raise UserError(
        "forced_output_tokens=None: the predictor must know how long the output will be; it does where "
        "forced_output_tokens is given, or max_tokens with ignore_eos and nothing to stop at"
    )


class Oracle(LengthPredictor):
    """Knows every output's length beforehand."""

    Config = OracleConfig

    def __init__(self, *, config: OracleConfig, seed: int) -> None:
        del config, seed
        self._lengths: dict[int, int] = {}

    def on_arrival(self, seq: SequenceView, request: Request) -> None:
        self._lengths[seq.order] = true_length(request)

    def on_finish(self, seq: SequenceView, output_tokens: int | None) -> None:
        del self._lengths[seq.order]

    def total(self, seq: SequenceView) -> float:
        return max(self._lengths[seq.order], seq.num_output_tokens + 1)

    def quantile(self, seq: SequenceView, q: float) -> float:
        return self.total(seq)
