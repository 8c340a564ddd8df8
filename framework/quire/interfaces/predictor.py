"""The length predictor: how long an output will be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quire.engine.request import Request
    from quire.engine.sequence import SequenceView


class LengthPredictor(ABC):
    """Predicts output lengths in tokens, from what is known of a sequence so far.

    A policy that wants one declares `uses_predictor = True`, is then constructed with `predictor=` as well,
    and keeps it as `self.predictor`; the engine tells every such predictor of arrivals and ends. A
    prediction may change with each token (`seq.num_output_tokens` grows) and each finished sequence. It is
    never less than one token more than there is: the sequence would have ended.

    This is the only way by which a policy learns of true lengths: `on_arrival` sees the whole request. The
    constructor takes `config` and `seed`, from which everything random in it derives.
    """

    Config: type[Any]

    @abstractmethod
    def total(self, seq: SequenceView) -> float:
        """The output's expected length in the end, given what is generated so far. Called by policies."""

    @abstractmethod
    def quantile(self, seq: SequenceView, q: float) -> float:
        """The length that the output stays within with probability `q`, 0 < q < 1, given what is
        generated."""

    def remaining(self, seq: SequenceView) -> float:
        """Tokens that the output is expected to have still to come, at least 1."""
        return self.total(seq) - seq.num_output_tokens

    def score(self, seq: SequenceView) -> float:
        """Orders outputs by length, the shortest first; means nothing else. The default is `total`."""
        return self.total(seq)

    def on_arrival(self, seq: SequenceView, request: Request) -> None:  # noqa: B027 - optional hook
        """A sequence comes: a request's first, or a sample forked from it. Called by the engine before any
        policy asks about it. A UserError refuses the request; nothing may be remembered of it then.
        """

    def on_finish(self, seq: SequenceView, output_tokens: int | None) -> None:  # noqa: B027 - optional hook
        """A sequence ended, after `output_tokens` tokens; None if it was aborted or failed, so that nobody
        knows how long it would have become. Called by the engine.
        """
