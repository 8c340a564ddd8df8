"""When a sequence ends."""

from __future__ import annotations

from quire.engine.sequence import FinishReason, Sequence


def finish_reason(sequence: Sequence, eos_token_ids: tuple[int, ...]) -> FinishReason | None:
    """Why `sequence` ends after its newest token, or None if it goes on.

    A forced output length overrides every stop condition. Stop strings were looked for by the sequence's
    news; before `min_tokens` nothing but the length ends it.
    """
    at_limit = sequence.num_output_tokens >= sequence.output_limit
    if sequence.request.forced_output_tokens is not None:
        return FinishReason.LENGTH if at_limit else None
    sampling, newest = sequence.sampling, sequence.tokens[-1]
    if sequence.num_output_tokens >= sampling.min_tokens and (
        newest in sampling.stop_token_ids
        or (newest in eos_token_ids and not sampling.ignore_eos)
        or sequence.news.stopped
    ):
        return FinishReason.STOP
    return FinishReason.LENGTH if at_limit else None
