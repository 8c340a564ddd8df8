"""Pieces of one sample put together to one."""

from __future__ import annotations

from collections.abc import Sequence

from quire.engine.outputs import SequenceOutput


def merged(pieces: Sequence[SequenceOutput]) -> SequenceOutput:
    """What `pieces`, in order and of one sample, say together; at least one."""
    if len(pieces) == 1:
        return pieces[0]
    first, last = pieces[0], pieces[-1]
    return SequenceOutput(
        request_id=last.request_id,
        index=last.index,
        token_ids=tuple(token for piece in pieces for token in piece.token_ids),
        text="".join(piece.text for piece in pieces),
        logprobs=tuple(each for piece in pieces for each in piece.logprobs),
        prompt_logprobs=first.prompt_logprobs,
        finish_reason=last.finish_reason,
        error=last.error,
        record=last.record,
    )
