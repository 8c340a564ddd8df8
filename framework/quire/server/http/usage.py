"""What an answer cost, in tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quire.engine.outputs import SequenceOutput


@dataclass(slots=True, kw_only=True)
class Usage:
    """Tokens of one HTTP request so far: of all its prompts and all its samples."""

    prompt_tokens: int
    counts_output: bool = True
    """False where the output is made for nothing: only the prompt was asked about."""
    output_tokens: int = 0
    cached_tokens: int = 0

    def add(self, output: SequenceOutput) -> None:
        """Count a piece. What of the prompt was cached is known when the first sample has ended."""
        if self.counts_output:
            self.output_tokens += len(output.token_ids)
        if output.index == 0 and output.record is not None:
            self.cached_tokens += output.record.num_cached_tokens

    def completion_form(self) -> dict[str, Any]:
        """As completions and chats report it."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.prompt_tokens + self.output_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }

    def response_form(self) -> dict[str, Any]:
        """As the responses API reports it."""
        return {
            "input_tokens": self.prompt_tokens,
            "input_tokens_details": {"cached_tokens": self.cached_tokens},
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.prompt_tokens + self.output_tokens,
        }

    def log_form(self) -> dict[str, int]:
        """As the access log has it."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "cached_tokens": self.cached_tokens,
        }
