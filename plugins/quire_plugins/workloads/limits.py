"""What becomes of requests that are longer than the engine admits."""

from __future__ import annotations

import enum
from typing import Any

from quire.errors import UserError


class TooLong(enum.Enum):
    """drop leaves the request out, clip shortens it, refuse ends the run before it begins."""

    drop = "drop"
    clip = "clip"
    refuse = "refuse"


class Limits:
    """Makes lengths fit, by the user's rule, and counts what that changed."""

    def __init__(self, *, rule: TooLong, longest: int) -> None:
        self.dropped = 0
        self.clipped = 0
        self._rule = rule
        self._longest = longest

    def fit(self, prompt: int, output: int, *, name: str) -> tuple[int, int] | None:
        """Lengths of prompt and output that fit together; None if the request is left out.

        Clipping shortens the output first, to no less than half of the longest sequence, then the prompt.
        Raises UserError, naming the request, if too long requests are refused.
        """
        longest = self._longest
        if prompt + output <= longest:
            return prompt, output
        if self._rule is TooLong.refuse:
            raise UserError(
                f"workload.too_long=refuse: {name} has {prompt} + {output} tokens, more than the {longest} "
                "that are admitted; drop leaves such requests out, clip shortens them"
            )
        if self._rule is TooLong.drop:
            self.dropped += 1
            return None
        self.clipped += 1
        output = min(output, max(longest - prompt, longest // 2, 1))
        return min(prompt, longest - output), output

    def drop(self, requests: int) -> None:
        """So many more are left out."""
        self.dropped += requests

    def notes(self) -> dict[str, Any]:
        """What a summary says of it."""
        notes = {"left_out_as_too_long": self.dropped, "shortened_as_too_long": self.clipped}
        return {name: count for name, count in notes.items() if count}
