"""Delivery: what a step computed becomes tokens of its sequences, and outputs for the caller."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from quire.clock import Clock
from quire.engine.audience import Audience
from quire.engine.finish import finish_reason
from quire.engine.outputs import SequenceOutput
from quire.engine.plan import Row, RowResult
from quire.engine.records import RequestRecord
from quire.engine.roster import Roster
from quire.engine.sequence import FinishReason, Sequence, Status
from quire.interfaces.allocator import KVAllocator

Sampled = list[tuple[Sequence, RowResult]]
"""Sequences that got a token in a step, each with what its row came to."""


class Delivery:
    """Carries results to their sequences and outputs to the caller, and sees to ends and forks: the roster
    loses or gains a sequence, and the audience is told.
    """

    def __init__(
        self,
        *,
        roster: Roster,
        allocator: KVAllocator,
        audience: Audience,
        eos_token_ids: tuple[int, ...],
        clock: Clock,
    ) -> None:
        self._roster = roster
        self._allocator = allocator
        self._audience = audience
        self._eos_token_ids = eos_token_ids
        self._clock = clock
        self.num_tokens = 0
        """That sequences have got since the beginning."""
        self._made: list[SequenceOutput] = []
        """Pieces that nobody has taken yet: mostly last ones, which are made at once."""
        self._untold: list[Sequence] = []
        """Who has news that are to be told before its end, once each."""

    def __len__(self) -> int:
        """Pieces that nobody has taken yet."""
        return len(self._made)

    def take_outputs(self, lets: Callable[[int], bool]) -> list[SequenceOutput]:
        """First and last pieces since the last call, and if `lets` says of their number that they may go, a
        piece of each other sequence that has news.
        """
        # An interrupt in between loses no piece: what is made is kept until all are handed over at once.
        living = [sequence for sequence in self._untold if sequence.status is not Status.FINISHED]
        begun = [sequence for sequence in living if sequence.news.num_told]
        later = begun if begun and not lets(len(begun)) else []
        for sequence in living:
            if sequence.news.num_tokens and not (later and sequence.news.num_told):
                self._made.append(self._piece(sequence))
        self._untold = later
        outputs, self._made = self._made, []
        return outputs

    def take_in(self, results: Iterable[tuple[Sequence, Row, RowResult]], now: float) -> Sampled:
        """Enter what each row computed. Where that is a token, it remains to be delivered."""
        sampled: Sampled = []
        for sequence, row, outcome in results:
            if outcome.error is not None:
                self.finish(sequence, FinishReason.ERROR, outcome.error)
                continue
            self._allocator.commit(sequence.view, row.start + row.count)
            sequence.prompt_logprobs.extend(outcome.prompt_logprobs)
            if row.samples:
                assert outcome.token_id is not None, f"row of {sequence.id} samples but has no token"
                sequence.num_pending -= 1
                sequence.tokens.append(outcome.token_id)
                sequence.record.token_times.append(now)
                sampled.append((sequence, outcome))
        return sampled

    def deliver(self, sampled: Sampled, now: float) -> None:
        """Pass on each sequence's newest token; end or fork the sequence where that is due."""
        self.num_tokens += len(sampled)
        for sequence, outcome in sampled:
            self._deliver(sequence, outcome, now)

    def finish(self, sequence: Sequence, reason: FinishReason, error: str | None = None) -> None:
        """End a sequence that did not end by its own token, and samples that were to be forked from it."""
        now = self._clock.now()
        unforked = sequence.index == 0 and sequence.num_output_tokens == 0
        for index in range(sequence.sampling.n) if unforked else (sequence.index,):
            record = replace(
                sequence.record, sample=index, finish=now, finish_reason=reason.value, error=error
            )
            self._made.append(self._piece(sequence, record))
        self._end(sequence, output_tokens=None)

    def _deliver(self, sequence: Sequence, outcome: RowResult, now: float) -> None:
        news = sequence.news
        news.add(outcome.logprobs)
        reason = finish_reason(sequence, self._eos_token_ids)
        if reason is not None:
            sequence.record.finish = now
            sequence.record.finish_reason = reason.value
            self._made.append(self._piece(sequence, sequence.record))
        elif news.num_tokens == 1 and not sequence.whole:  # with more than one it stands there already
            self._untold.append(sequence)
        if sequence.index == 0 and sequence.num_output_tokens == 1:
            for child in self._roster.fork(sequence):
                self._audience.forked(child)
        if reason is not None:
            self._end(sequence, output_tokens=sequence.num_output_tokens)

    def _piece(self, sequence: Sequence, record: RequestRecord | None = None) -> SequenceOutput:
        """What the caller does not know of it yet; the last piece has its record."""
        first = not sequence.news.num_told
        token_ids, text, logprobs = sequence.news.take(last=record is not None)
        return SequenceOutput(
            request_id=sequence.request.id,
            index=sequence.index if record is None else record.sample,
            token_ids=token_ids,
            text=text,
            logprobs=logprobs,
            # of a prompt without an output they may be those of a part
            prompt_logprobs=tuple(sequence.prompt_logprobs) if first and token_ids else (),
            finish_reason=None if record is None else FinishReason(record.finish_reason),
            error=None if record is None else record.error,
            record=record,
        )

    def _end(self, sequence: Sequence, *, output_tokens: int | None) -> None:
        """Forget a sequence whose last piece is on its way; `output_tokens` if it came to its own end."""
        self._roster.end(sequence)
        self._audience.ended(sequence, output_tokens)
