"""What the engine sends to an executor, and what comes back. Values only: nothing here is shared state.

Rows and their results are msgspec structs, and what is made for every step is not frozen, though nobody
writes it: a frozen dataclass takes several times as long to make, which in virtual time was a third of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from quire.engine.request import SamplingParams
from quire.engine.shape import StepShape
from quire.interfaces.allocator import KVCopy, Tier


@dataclass(frozen=True, kw_only=True, slots=True)
class Newcomer:
    """A sequence that takes a slot: all that the runner must know of it before its first step there."""

    token_ids: tuple[int, ...]
    """Every known token; tokens sampled later the runner knows by itself."""
    num_prompt: int
    params: SamplingParams
    seed: int
    """64 bits, already particular to the sample."""


class Row(msgspec.Struct, kw_only=True, frozen=True):
    """One sequence's share of a step: tokens start .. start + count of the sequence in `slot`.

    `samples` says that the row ends at the sequence's last token, so that the next one is drawn from it.
    `new_blocks[g]` are table entries of group g from index `first_block[g]` on, unknown to the runner so far.
    """

    sequence_id: str
    slot: int
    start: int
    count: int
    samples: bool
    first_block: tuple[int, ...]
    new_blocks: tuple[tuple[int, ...], ...]
    newcomer: Newcomer | None = None


@dataclass(kw_only=True, slots=True)
class StepPlan:
    """One step of the model: rows packed one after another. `index` counts steps from 0.

    `copies` are made first, one after another: after everything that earlier steps wrote, before anything
    that this one reads or writes.
    """

    index: int
    rows: tuple[Row, ...]
    shape: StepShape
    """Of the rows."""
    copies: tuple[KVCopy, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens computed in this step."""
        return self.shape.num_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenLogprobs:
    """Log probabilities at one position, of the model's own distribution (before processors).

    `top` are the most probable tokens, best first, as many as were asked for.
    """

    token_id: int
    logprob: float
    rank: int
    """1 for the most probable token."""
    top: tuple[tuple[int, float], ...]


class RowResult(msgspec.Struct, kw_only=True, frozen=True):
    """What a row of the plan came to. Either `error`, or the sampled token where the row samples.

    `prompt_logprobs` are those of the row's prompt tokens (the prompt's very first has none), if asked for.
    """

    token_id: int | None = None
    logprobs: TokenLogprobs | None = None
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    error: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CopiedBytes:
    """Bytes of KV that a step's copies moved."""

    to_host: int = 0
    from_host: int = 0
    within: int = 0
    """From one block of device memory to another."""

    @property
    def total(self) -> int:
        return self.to_host + self.from_host + self.within

    @classmethod
    def of(cls, copies: Iterable[KVCopy], block_bytes: Sequence[int]) -> CopiedBytes:
        """What `copies` move; `block_bytes[g]` are those of one block of group g."""
        to_host = from_host = within = 0
        for copy in copies:
            size = block_bytes[copy.group]
            if copy.target.tier is Tier.HOST:
                to_host += size
            elif copy.source.tier is Tier.HOST:
                from_host += size
            else:
                within += size
        return cls(to_host=to_host, from_host=from_host, within=within)


@dataclass(kw_only=True, slots=True)
class StepResult:
    """Results in the order of the plan's rows, and how long each phase took, in seconds."""

    index: int
    rows: tuple[RowResult, ...]
    seconds: float
    """From the start of the step to its tokens, on the executor."""
    copied: CopiedBytes = field(default_factory=CopiedBytes)
    start: float | None = None
    """When it started, on the clock that the engine's profile reads; None if the executor's is another."""
    phases: dict[str, float] = field(default_factory=dict[str, float])
    """In the order in which they came, without gaps: `MODEL_PHASES`, and what the executor does besides."""


MODEL_PHASES = ("forward", "logits")
"""The phases in which an executor computes the model; all others are overhead."""

COPY_PHASE = "copy"
"""The phase in which it makes a plan's copies; a step without any does not have it."""
