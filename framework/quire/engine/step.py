"""The builder through which a policy makes a step. What it builds is legal by construction."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from collections.abc import Sequence as Candidates
from dataclasses import dataclass

from quire.engine.config import Preemption
from quire.engine.queues import QueueView
from quire.engine.sequence import Sequence, SequenceView, Status
from quire.interfaces.allocator import KVAllocator, KVLayout, KVStats, PrefixHit
from quire.interfaces.victim import VictimPolicy


class Lack(enum.Enum):
    """What kept a sequence out of a step."""

    TOKENS = "tokens"
    """The step's token budget is used up."""
    SEQUENCES = "sequences"
    """As many sequences run as may."""
    MEMORY = "memory"
    """No block is left for it: preempting another may help."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to `StepBuilder.add`: true if the sequence is in the step, with that many tokens."""

    tokens: int
    lack: Lack | None = None

    def __bool__(self) -> bool:
        return self.lack is None

    @property
    def lacks_memory(self) -> bool:
        return self.lack is Lack.MEMORY


@dataclass(slots=True)
class Entry:
    """A sequence in the step: it computes tokens start .. start + count."""

    sequence: Sequence
    start: int
    count: int
    hit: PrefixHit | None


_ONE_TOKEN = Grant(1)
_NO_TOKENS = Grant(0, Lack.TOKENS)
_NO_SEQUENCES = Grant(0, Lack.SEQUENCES)
_NO_MEMORY = Grant(0, Lack.MEMORY)


class StepBuilder:
    """Collects the work of one step within its budgets. Used by a policy once, then sealed by the engine."""

    def __init__(
        self,
        *,
        queues: QueueView,
        allocator: KVAllocator,
        layout: KVLayout,
        victims: VictimPolicy | None,
        max_tokens: int,
        max_sequences: int,
        num_holding: int,
        preemption: Preemption = Preemption.recompute,
    ) -> None:
        """`victims` None: who ranks last gives way. `preemption` is the run's own mode."""
        self._queues = queues
        self._allocator = allocator
        self._layout = layout
        self._victims = victims
        self._max_tokens = max_tokens
        self._tokens_left = max_tokens
        self._sequences_left = max_sequences - num_holding
        self._entries: dict[str, Entry] = {}
        self._excluded: set[str] = set()
        self._preemption = preemption
        self._preempted: list[Sequence] = []
        self._num_swapped = 0
        self._num_swap_fallbacks = 0
        self._rejected: list[tuple[Sequence, str]] = []

    @property
    def max_tokens(self) -> int:
        """The token budget of a whole step."""
        return self._max_tokens

    @property
    def tokens_left(self) -> int:
        """Tokens that still fit into this step."""
        return self._tokens_left

    @property
    def sequences_left(self) -> int:
        """Waiting sequences that may still be taken in, memory aside."""
        return self._sequences_left

    @property
    def kv(self) -> KVStats:
        """KV memory as of now, with what this step has taken."""
        return self._allocator.stats()

    @property
    def kv_tokens(self) -> int:
        """Tokens of sequences that share nothing which KV memory holds in all."""
        return self._layout.num_tokens

    def kv_room(self, tokens: int) -> int:
        """What `tokens` tokens of one sequence take up of `kv_tokens`: whole blocks."""
        return self._layout.blocks_for(tokens) * self._layout.block_size

    def __contains__(self, seq: SequenceView) -> bool:
        return seq.id in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[SequenceView]:
        """The sequences in this step, in the order in which they were added."""
        return (entry.sequence.view for entry in self._entries.values())

    def cached_tokens(self, seq: SequenceView) -> int:
        """Tokens of a waiting sequence that the prefix cache, or what was kept of it, would spare. Changes
        nothing.
        """
        return self._allocator.match(seq).num_tokens

    def add(self, seq: SequenceView, tokens: int | None = None) -> Grant:
        """Let `seq` compute up to `tokens` tokens (None: all that remain), as the budgets allow.

        A waiting sequence starts from its cached prefix, whose tokens are not charged. All or nothing as to
        memory: if blocks lack for the granted tokens, nothing changes. A sequence is added once a step.
        """
        sequence = seq._sequence  # pyright: ignore[reportPrivateUsage] - the core reads through the view
        id = sequence.id
        assert id not in self._entries, f"{id} is in this step already"
        assert id not in self._excluded, f"{id} was preempted or rejected in this step"
        assert sequence.status is not Status.FINISHED, f"{id} has finished"
        assert tokens is None or tokens >= 1, f"{id}: tokens={tokens}, must be at least 1"
        waiting = sequence.status is Status.WAITING
        if waiting and self._sequences_left <= 0:
            return _NO_SEQUENCES
        if self._tokens_left <= 0:
            return _NO_TOKENS
        hit = self._allocator.match(seq) if waiting else None
        start = hit.num_tokens if hit is not None else sequence.num_computed
        remaining = sequence.num_tokens - start
        count = min(remaining if tokens is None else tokens, remaining, self._tokens_left)
        assert count >= 1, f"{id} has nothing to compute"
        if not self._allocator.grow(seq, start + count, hit):
            return _NO_MEMORY
        self._entries[id] = Entry(sequence, start, count, hit)
        self._tokens_left -= count
        self._sequences_left -= waiting
        return _ONE_TOKEN if count == 1 else Grant(count)

    def victim(self, candidates: Candidates[SequenceView]) -> SequenceView:
        """Whom the run's victim policy would preempt of `candidates`: running sequences, at least one, whom
        the scheduler would serve first comes first. Changes nothing; `preempt` does.
        """
        return candidates[-1] if self._victims is None else self._victims.choose(candidates)

    def preempt(self, seq: SequenceView, mode: Preemption | None = None) -> None:
        """Take `seq` off memory: it waits again. Its part of this step, if any, is given back, and it cannot
        be added again in this step.

        `mode` says what becomes of its KV; None takes the run's own (engine.preemption). What cannot be kept
        in host memory is computed again, and the run counts that.
        """
        mode = mode or self._preemption
        sequence = self._exclude(seq, swap=mode is Preemption.swap)
        if sequence.status is Status.RUNNING:
            self._preempted.append(sequence)

    def reject(self, seq: SequenceView, why: str) -> None:
        """End `seq` with an error that says why."""
        self._rejected.append((self._exclude(seq), why))

    def _exclude(self, seq: SequenceView, *, swap: bool = False) -> Sequence:
        assert seq.id not in self._excluded, f"{seq.id} was preempted or rejected in this step already"
        sequence = seq._sequence  # pyright: ignore[reportPrivateUsage]
        entry = self._entries.pop(seq.id, None)
        if entry is not None:
            self._tokens_left += entry.count
        if entry is not None or sequence.status is Status.RUNNING:
            self._sequences_left += 1
            kept = swap and self._allocator.swap_out(seq)
            if not kept:
                self._allocator.free(seq)
            if sequence.status is Status.RUNNING:
                self._num_swapped += kept
                self._num_swap_fallbacks += swap and not kept
        self._queues.running._drop(seq)  # pyright: ignore[reportPrivateUsage]
        self._excluded.add(seq.id)
        return sequence

    def seal(self) -> SealedStep:
        """What was decided, for the engine to carry out."""
        return SealedStep(
            entries=tuple(self._entries.values()),
            preempted=tuple(self._preempted),
            num_swapped=self._num_swapped,
            num_swap_fallbacks=self._num_swap_fallbacks,
            rejected=tuple(self._rejected),
        )


@dataclass(kw_only=True, slots=True)
class SealedStep:
    """A policy's decision about one step. Sequences rejected may be waiting or running."""

    entries: tuple[Entry, ...]
    preempted: tuple[Sequence, ...]
    num_swapped: int
    """Of those preempted, how many are kept in host memory."""
    num_swap_fallbacks: int
    """How many were to be, and could not."""
    rejected: tuple[tuple[Sequence, str], ...]
