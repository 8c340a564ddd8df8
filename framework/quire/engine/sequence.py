"""A sequence: one sample of a request on its way through the engine.

`Sequence` is the engine's own, mutable record. Policies receive its `SequenceView`, which only reads.

    tokens known:   |<------ prompt ------>|<-- output -->|
    num_computed:   |<---- KV computed or being computed ---->|
    remaining:                                            |<->|   num_tokens - num_computed

`num_pending` counts tokens that a step in flight is about to sample: they are part of the length that
policies see, although nobody knows their ids yet.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence as TokenIds
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING

from quire.engine.news import News
from quire.engine.plan import TokenLogprobs
from quire.engine.records import RequestRecord
from quire.engine.request import Request, SamplingParams

if TYPE_CHECKING:
    from quire.text.stream import TextStream


class Status(enum.Enum):
    """Where a sequence is: `WAITING` holds no KV memory, `RUNNING` may, `FINISHED` never again."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class FinishReason(enum.Enum):
    """Why a sequence ended."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


class SequenceView:
    """What a policy may know of a sequence. Reading only; true output lengths are not among it."""

    __slots__ = ("_sequence",)

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence

    def __repr__(self) -> str:
        return f"<{self.id}: {self.num_computed}/{self.num_tokens} tokens computed, {self.status.value}>"

    @property
    def id(self) -> str:
        """Unique among living sequences: the request's id, with the sample's index where n > 1."""
        return self._sequence.id

    @property
    def order(self) -> int:
        """Place in the order of arrival; unique, the smaller the earlier."""
        return self._sequence.order

    @property
    def arrival_time(self) -> float:
        """Seconds on the engine's clock."""
        return self._sequence.arrival_time

    @property
    def tenant(self) -> str:
        return self._sequence.request.tenant

    @property
    def priority(self) -> int:
        """The caller's; the smaller the more urgent."""
        return self._sequence.request.priority

    @property
    def deadline(self) -> float | None:
        """Seconds on the engine's clock."""
        return self._sequence.request.deadline

    @property
    def session(self) -> str | None:
        return self._sequence.request.session

    @property
    def status(self) -> Status:
        return self._sequence.status

    @property
    def num_prompt_tokens(self) -> int:
        return self._sequence.num_prompt_tokens

    @property
    def num_output_tokens(self) -> int:
        """Generated so far, those of a step in flight included."""
        return self.num_tokens - self.num_prompt_tokens

    @property
    def num_tokens(self) -> int:
        """Prompt and output so far, those of a step in flight included."""
        return self._sequence.num_tokens

    @property
    def num_computed(self) -> int:
        """Tokens whose KV is in memory, or will be when the step in flight ends."""
        return self._sequence.num_computed

    @property
    def remaining(self) -> int:
        """Tokens still to compute before the next one can be sampled: 1 when decoding."""
        return self.num_tokens - self._sequence.num_computed

    @property
    def max_tokens(self) -> int:
        """Output tokens that the caller declared as the most; the true number is hidden."""
        return self._sequence.max_tokens

    @property
    def num_preemptions(self) -> int:
        return self._sequence.num_preemptions

    @property
    def token_ids(self) -> TokenIds[int]:
        """Ids known so far (those in flight are missing); not to be kept across steps."""
        return self._sequence.tokens

    @property
    def shares_prefixes(self) -> bool:
        """False if every token must be computed (prompt logprobs were asked for)."""
        return self._sequence.request.sampling.prompt_logprobs is None


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """The engine's record of a sequence. Only the engine writes it."""

    id: str
    request: Request
    order: int
    arrival_time: float
    index: int
    """Which of the request's n samples this is."""
    max_tokens: int
    """Output tokens at most, as declared."""
    output_limit: int
    """Output tokens at most, in truth: the forced length where there is one."""
    tokens: list[int]
    num_computed: int = 0
    num_pending: int = 0
    status: Status = Status.WAITING
    slot: int | None = None
    """Row of the runner's persistent arrays, while running."""
    num_preemptions: int = 0
    blocks_sent: list[int] = field(default_factory=list[int])
    """How many block table entries of each KV group the runner knows."""
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list[TokenLogprobs])
    """Those computed so far, chunk by chunk."""
    text: InitVar[TextStream | None] = None
    """Its incremental detokeniser; None in an engine without a tokenizer."""
    whole: bool = False
    """Whether the caller wants one piece, when it has ended."""
    record: RequestRecord
    news: News = field(init=False)
    view: SequenceView = field(init=False)
    num_prompt_tokens: int = field(init=False)

    def __post_init__(self, text: TextStream | None) -> None:
        self.news = News(tokens=self.tokens, text=text)
        self.view = SequenceView(self)
        self.num_prompt_tokens = len(self.request.prompt_token_ids)

    @property
    def sampling(self) -> SamplingParams:
        return self.request.sampling

    @property
    def num_tokens(self) -> int:
        """Known tokens and those in flight."""
        return len(self.tokens) + self.num_pending

    @property
    def num_output_tokens(self) -> int:
        """Tokens generated and known."""
        return len(self.tokens) - self.num_prompt_tokens

    @property
    def will_reach_limit(self) -> bool:
        """Whether the tokens in flight are the last that this sequence may generate."""
        return self.num_output_tokens + self.num_pending >= self.output_limit
