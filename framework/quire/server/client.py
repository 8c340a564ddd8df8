"""What a front end may ask of an engine, wherever the engine runs.

A front end (HTTP, a notebook) tokenises prompts and speaks to one `EngineClient`; several front ends or
engines may exist. Everything here is called on one asyncio event loop.

    starting --loaded--> ready --drain--> draining --close--> dead
                          | ^
                     dies v | restarted, a limited number of times
                          dead
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.engine.outputs import SequenceOutput
from quire.engine.records import RequestRecord
from quire.engine.request import Request

if TYPE_CHECKING:
    import numpy as np

RequestObserver = Callable[[Request, RequestRecord], None]
"""Called on the event loop when a sample of a request has ended, however it ended."""


class EngineUnavailable(RuntimeError):
    """Nothing wrong with the request, but it cannot be served now: the engine starts, drains or is dead."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which it may be tried again; None where nobody knows."""


class EngineDead(EngineUnavailable):
    """The engine died, and the request with it; or it is dead and stays so."""


class QueueFull(EngineUnavailable):
    """As many wait as may wait. `retry_after` is an estimate from the recent pace."""


class RequestTimeout(RuntimeError):
    """The request was not done within the time that a request may take; it has been aborted."""


class ModelKind(enum.Enum):
    """What a model answers with: tokens, a vector for a text, or a score for a pair of texts."""

    GENERATE = "generate"
    EMBED = "embed"
    RERANK = "rerank"


class EngineStatus(enum.Enum):
    """`STARTING` loads the model, `DRAINING` ends what is in flight and takes nothing new."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """The model that an engine serves."""

    name: str
    """As it was asked for: demo, a directory or a hub id."""
    path: str
    """Its directory: where the tokenizer is."""
    kind: ModelKind
    max_model_tokens: int
    """The longest sequence, prompt and output, that is admitted."""
    vocab_size: int
    eos_token_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineStats:
    """Counts as of now. Those "since the start" begin anew with a restarted engine."""

    running: int = 0
    """Sequences that hold memory."""
    waiting: int = 0
    kv_used: int = 0
    kv_cached: int = 0
    kv_total: int = 0
    """Blocks: held by sequences, cached prefixes that nobody holds, all there are."""
    prefix_queries: int = 0
    prefix_hits: int = 0
    """Prompt tokens looked for in the prefix cache, and those found, since the start."""
    preemptions: int = 0
    evictions: int = 0
    steps: int = 0
    computed_tokens: int = 0
    """Tokens put through the model since the start."""
    generated_tokens: int = 0
    """Tokens sampled since the start."""
    busy_seconds: float = 0.0
    """Sum of the durations of all steps since the start."""
    schedule_seconds: float = 0.0
    """What the scheduler took of it."""
    restarts: int = 0
    """How often the engine was started again after it had died."""

    @property
    def kv_usage(self) -> float:
        """Fraction of the blocks that sequences hold."""
        return self.kv_used / self.kv_total if self.kv_total else 0.0


class EngineClient(ABC):
    """One engine, its life and what it can be asked."""

    card: ModelCard
    """Known once `start` has returned."""

    @property
    @abstractmethod
    def status(self) -> EngineStatus:
        """Where the engine is in its life; health is green while it is not DEAD."""

    @abstractmethod
    async def start(self) -> None:
        """Start the engine and return when the model is loaded.

        Raises UserError for what the user can mend (no such model, too little memory), EngineDead otherwise.
        """

    @abstractmethod
    def generate(self, request: Request, *, whole: bool = False) -> AsyncGenerator[SequenceOutput, None]:
        """Pieces of all n samples, those of a sample in order, until every sample has ended. A piece has the
        tokens that came since the one before: one or more, or none.

        With `whole` each sample comes as one piece, when it has ended: cheaper where nobody reads along. The
        last piece of a sample has its `finish_reason`; ABORT and ERROR are among them.

        `request.id` is unique among living requests; `arrival_time` is None, and `deadline` is in seconds
        from now. Closing the iterator, or cancelling the task that awaits it, aborts the request: the engine
        has forgotten it within a step. A slow reader holds up nobody; what it has not read yet is kept.

        Nothing is sent before the first piece is asked for. Raises then RequestRefused (the request can never
        be served), QueueFull, EngineUnavailable; at any time EngineDead and RequestTimeout.
        """

    @abstractmethod
    async def embed(self, token_ids: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """A vector, float32 [E], for each text; pooled (and normalised) as the model's own files say.

        Raises RequestRefused (too long a text, a model that does not embed), EngineUnavailable.
        """

    @abstractmethod
    async def score(
        self,
        token_ids: Sequence[Sequence[int]],
        token_type_ids: Sequence[Sequence[int]] | None = None,
    ) -> list[float]:
        """The score of each pair of texts, both in one sequence of tokens as the model's tokenizer joins
        them.

        Raises RequestRefused (too long a pair, a model that does not score), EngineUnavailable.
        """

    @abstractmethod
    async def stats(self) -> EngineStats:
        """Counts as of now, after the step under way. Raises EngineUnavailable."""

    @abstractmethod
    def observe(self, observer: RequestObserver) -> None:
        """Call `observer(request, record)` whenever a sample has ended, for metrics and traces.

        Times in the record are seconds on the engine's clock: only differences mean anything here.
        """

    @abstractmethod
    async def drain(self, seconds: float) -> bool:
        """Take no new requests; wait until those in flight have ended, at most so long, then abort the rest.

        Whether all ended by themselves. To be followed by `close`.
        """

    @abstractmethod
    async def close(self) -> None:
        """Stop the engine; what is still in flight ends with EngineDead. Idempotent."""
