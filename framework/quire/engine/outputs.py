"""What the engine hands back: pieces of output as they come."""

from __future__ import annotations

import msgspec

from quire.engine.plan import TokenLogprobs
from quire.engine.records import RequestRecord
from quire.engine.sequence import FinishReason


class SequenceOutput(msgspec.Struct, kw_only=True, array_like=True, omit_defaults=True):
    """News of one sample of a request. Pieces come in order; the last one has a `finish_reason`.

    `text` is what the new tokens add to the text; characters that a stop string or an unfinished multi-byte
    character may still change are held back. The last piece carries the sample's `record`.
    """

    request_id: str
    index: int
    token_ids: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: FinishReason | None = None
    error: str | None = None
    """Why the sequence failed or was refused, where `finish_reason` is ERROR."""
    record: RequestRecord | None = None
