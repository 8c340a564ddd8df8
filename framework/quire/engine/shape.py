"""The shape of a step: the counts that what it costs depends on, whoever computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quire.engine.plan import Row


@dataclass(frozen=True, kw_only=True, slots=True)
class StepShape:
    """Counts over the rows of a step. A *decode* is a row of exactly one token that samples; any other row
    is *prefill*, a chunk of a prompt or of what a preemption took away.
    """

    num_tokens: int
    """Tokens computed."""
    prefill_tokens: int
    """Those of prefill rows."""
    decode_sequences: int
    """Decode rows."""
    samples: int
    """Rows that sample: the logits that are computed."""
    decode_context: int
    """Sum over decode rows of the tokens that each attends to, its own included."""
    max_decode_context: int
    """The largest of them."""
    prefill_pairs: int
    """Pairs of a query and a key that it sees, in prefill rows (no window assumed): chunk x context."""

    @classmethod
    def of(cls, rows: Iterable[Row]) -> StepShape:
        """The shape of the step that these rows make."""
        tokens = decodes = samples = decode_context = max_decode_context = pairs = 0
        for row in rows:
            start, count = row.start, row.count
            tokens += count
            samples += row.samples
            if count == 1 and row.samples:
                decodes += 1
                decode_context += start + 1
                if start >= max_decode_context:
                    max_decode_context = start + 1
            else:
                pairs += count * start + count * (count + 1) // 2
        return cls(
            num_tokens=tokens,
            prefill_tokens=tokens - decodes,
            decode_sequences=decodes,
            samples=samples,
            decode_context=decode_context,
            max_decode_context=max_decode_context,
            prefill_pairs=pairs,
        )
