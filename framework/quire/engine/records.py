"""The record of a run: one line per step, one per request. Times are seconds on the engine's clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quire.engine.plan import COPY_PHASE

if TYPE_CHECKING:
    from quire.engine.flight import Flight
    from quire.engine.plan import StepResult


@dataclass(kw_only=True, slots=True)
class StepRecord:
    """One committed step. Once made it is only read (not frozen for speed: `quire.engine.plan`)."""

    index: int
    start: float
    """When it was submitted."""
    end: float
    """When it was committed."""
    seconds: float
    """Duration on the executor."""
    schedule_seconds: float
    """Wall time that the scheduler took to fill it."""
    num_tokens: int
    num_sequences: int
    prefill_tokens: int
    """Tokens of rows that compute more than their newest token."""
    decode_sequences: int
    """Rows of exactly one token that sample."""
    context_tokens: int
    """Sum over rows of the tokens in KV memory at the end of the step."""
    max_context: int
    num_running: int
    num_waiting: int
    num_preempted: int
    kv_used: int
    kv_cached: int
    kv_total: int
    """Blocks, of all groups."""
    samples: int = 0
    """Rows that sample."""
    decode_context: int = 0
    """Sum over decode rows of the tokens that each attends to."""
    max_decode_context: int = 0
    prefill_pairs: int = 0
    """Pairs of a query and a key that it sees, in prefill rows (`quire.engine.shape`)."""
    num_swapped: int = 0
    """Of those preempted, how many were kept in host memory."""
    num_swap_fallbacks: int = 0
    """How many were to be kept there, and could not."""
    host_used: int = 0
    """Blocks of host memory kept for sequences that were swapped out."""
    host_cached: int = 0
    """Blocks of host memory that hold a published prefix."""
    bytes_to_host: int = 0
    bytes_from_host: int = 0
    bytes_copied: int = 0
    """From one block of device memory to another."""
    copy_seconds: float = 0.0
    """What these copies took, of `seconds`."""
    kv_tokens_used: int = 0
    """Tokens that sequences asked room for, in the blocks that they hold."""
    kv_tokens_reserved: int = 0
    """Tokens that those blocks have room for."""
    phases: dict[str, float] = field(default_factory=dict[str, float])

    @classmethod
    def of(
        cls,
        flight: Flight,
        result: StepResult,
        *,
        end: float,
        block_size: int,
        num_running: int,
        num_waiting: int,
    ) -> StepRecord:
        """The record of `flight`, which came to `result`; both counts are those after its commit."""
        plan, kv, preemptions = flight.plan, flight.kv, flight.preemptions
        shape = plan.shape
        contexts = [row.start + row.count for row in plan.rows]
        return cls(
            index=plan.index,
            start=flight.start,
            end=end,
            seconds=result.seconds,
            schedule_seconds=flight.schedule_seconds,
            num_tokens=shape.num_tokens,
            num_sequences=len(plan.rows),
            prefill_tokens=shape.prefill_tokens,
            decode_sequences=shape.decode_sequences,
            context_tokens=sum(contexts),
            max_context=max(contexts),
            num_running=num_running,
            num_waiting=num_waiting,
            num_preempted=preemptions.total,
            kv_used=kv.used,
            kv_cached=kv.cached,
            kv_total=kv.total,
            samples=shape.samples,
            decode_context=shape.decode_context,
            max_decode_context=shape.max_decode_context,
            prefill_pairs=shape.prefill_pairs,
            num_swapped=preemptions.swapped,
            num_swap_fallbacks=preemptions.swap_fallbacks,
            host_used=kv.host_used,
            host_cached=kv.host_cached,
            bytes_to_host=result.copied.to_host,
            bytes_from_host=result.copied.from_host,
            bytes_copied=result.copied.within,
            copy_seconds=result.phases.get(COPY_PHASE, 0.0),
            kv_tokens_used=kv.tokens_held,
            kv_tokens_reserved=kv.used * block_size,
            phases=result.phases,
        )


@dataclass(kw_only=True, slots=True)
class RequestRecord:
    """One sample of a request, from its arrival to its end. `token_times` has one entry a token."""

    request_id: str
    sample: int
    tenant: str
    arrival: float
    num_prompt_tokens: int
    num_samples: int = 1
    """Of its request."""
    num_cached_tokens: int = 0
    """Prompt tokens that the prefix cache or a fork spared, at first admission."""
    num_computed_tokens: int = 0
    """Tokens computed for it in all, recomputation included."""
    num_preemptions: int = 0
    first_scheduled: float | None = None
    preempted: list[float] = field(default_factory=list[float])
    """When it was preempted, each time."""
    resumed: list[float] = field(default_factory=list[float])
    """When it was in a step again: as many, or one less if it ended before."""
    token_times: list[float] = field(default_factory=list[float])
    finish: float | None = None
    finish_reason: str | None = None
    error: str | None = None

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_times)

    def mark_scheduled(self, now: float, *, cached_tokens: int) -> None:
        """The sequence is in a step; what counts is the first time, and that after each preemption."""
        if self.first_scheduled is None:
            self.first_scheduled = now
            self.num_cached_tokens = cached_tokens
        if len(self.resumed) < len(self.preempted):
            self.resumed.append(now)

    def mark_preempted(self, now: float) -> None:
        """The sequence has lost its memory and waits."""
        self.num_preemptions += 1
        self.preempted.append(now)
