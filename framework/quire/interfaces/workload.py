"""A workload is a stream of timed requests: a trace replayed or a distribution drawn from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quire.engine.request import Request
    from quire.engine.sequence import FinishReason
    from quire.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadContext:
    """What requests may be made from: the model's limits and the run's seed."""

    seed: int
    vocab_size: int
    max_model_tokens: int
    """The longest sequence, prompt and output, that the engine admits."""
    tokenizer: Tokenizer | None
    """Given if the workload's `uses_text` says so."""


class Workload(ABC):
    """Makes requests, each with its `arrival_time` in seconds from the start of the run.

    The same config and seed give the same requests, in every process and on every machine. A workload object
    serves one run.
    """

    Config: type[Any]

    uses_text: bool = False
    """Whether requests are made from text: the context then has the model's tokenizer."""
    reacts: bool = False
    """Whether the end of a request sets off others: `on_end` is then called."""

    @abstractmethod
    def requests(self, context: WorkloadContext) -> Iterator[Request]:
        """Requests in order of arrival, none longer than the context says. Lazily: a workload may be longer
        than memory. What is wrong with it is a UserError before the first of them.
        """

    @abstractmethod
    def __len__(self) -> int:
        """How many requests there will be, those that others set off included; fewer if some are left out."""

    def on_end(
        self, request: Request, token_ids: Sequence[int], reason: FinishReason, now: float
    ) -> Iterable[Request]:
        """The requests that the end of `request` sets off: a user's next one, a conversation's next turn.

        Called by the feed if `reacts`, when the last sample of a request that was made here ended.
        `token_ids` and `reason` are those of the first sample. `now`, like their `arrival_time`, is in
        seconds from the start of the run; none arrives before `now`.
        """
        del request, token_ids, reason, now
        return ()

    def notes(self) -> Mapping[str, Any]:
        """What the run's summary should say of the workload, as plain data: what was cut or left out, above
        all. Called once, after the last request.
        """
        return {}

    def solved(self, request_id: str, text: str) -> bool | None:
        """Whether `text`, generated for a request made here, is its right answer; None where there is none.

        Called by the task for each completed sample, after `requests` has yielded that request.
        """
        del request_id, text
        return None
