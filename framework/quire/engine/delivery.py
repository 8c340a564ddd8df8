"""Delivery: what a step computed becomes tokens of its sequences, and outputs for the caller."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from quire.clock import Clock
from quire.engine.audience import Audience
from quire.engine.finish import finish_reason
from quire.engine.outputs import SequenceOutput
from quire.engine.plan import Row, RowResult
from quire.engine.roster import Roster
from quire.engine.sequence import FinishReason, Sequence
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
        self._outputs: list[SequenceOutput] = []

    def __len__(self) -> int:
        """Outputs that nobody has taken yet."""
        return len(self._outputs)

    def take_outputs(self) -> list[SequenceOutput]:
        """Those since the last call."""
        outputs, self._outputs = self._outputs, []
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

    def deliver(self, sampled: Sampled, texts: list[str], now: float) -> None:
        """Pass on each sequence's newest token and its text; end or fork the sequence where that is due."""
        for (sequence, outcome), text in zip(sampled, texts, strict=True):
            self._deliver(sequence, outcome, text, now)

    def finish(self, sequence: Sequence, reason: FinishReason, error: str | None = None) -> None:
        """End a sequence that did not end by its own token, and samples that were to be forked from it."""
        now = self._clock.now()
        unforked = sequence.index == 0 and sequence.num_output_tokens == 0
        for index in range(sequence.sampling.n) if unforked else (sequence.index,):
            record = replace(
                sequence.record, sample=index, finish=now, finish_reason=reason.value, error=error
            )
            self._outputs.append(
                SequenceOutput(
                    request_id=sequence.request.id,
                    index=index,
                    token_ids=(),
                    text=sequence.text.flush() if sequence.text is not None else "",
                    finish_reason=reason,
                    error=error,
                    record=record,
                )
            )
        self._end(sequence, output_tokens=None)

    def _deliver(self, sequence: Sequence, outcome: RowResult, text: str, now: float) -> None:
        first = sequence.num_output_tokens == 1
        reason = finish_reason(sequence, self._eos_token_ids)
        if reason is not None:
            text += sequence.text.flush() if sequence.text is not None else ""
            sequence.record.finish = now
            sequence.record.finish_reason = reason.value
        self._outputs.append(
            SequenceOutput(
                request_id=sequence.request.id,
                index=sequence.index,
                token_ids=(sequence.tokens[-1],),
                text=text,
                logprobs=() if outcome.logprobs is None else (outcome.logprobs,),
                prompt_logprobs=tuple(sequence.prompt_logprobs) if first else (),
                finish_reason=reason,
                record=sequence.record if reason is not None else None,
            )
        )
        if first and sequence.index == 0:
            for child in self._roster.fork(sequence):
                self._audience.forked(child)
        if reason is not None:
            self._end(sequence, output_tokens=sequence.num_output_tokens)

    def _end(self, sequence: Sequence, *, output_tokens: int | None) -> None:
        """Forget a sequence whose last output is on its way; `output_tokens` if it came to its own end."""
        self._roster.end(sequence)
        self._audience.ended(sequence, output_tokens)


def detokenise(sampled: Sampled) -> list[str]:
    """What the newest token of each sequence adds to its text."""
    return [
        "" if sequence.text is None else sequence.text.append(sequence.tokens[-1:]) for sequence, _ in sampled
    ]
