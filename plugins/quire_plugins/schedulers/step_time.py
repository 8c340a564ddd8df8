"""How long steps take, learned from those that were computed."""

from __future__ import annotations

from quire.engine.records import StepRecord

_FORGET = 0.99
"""Weight of a step against the one after it."""


class StepTime:
    """Seconds of a step as a line over its tokens, fitted by least squares to the records, late ones most.

    Before the first record every step is taken to last no time.
    """

    def __init__(self) -> None:
        self._weight = self._tokens = self._seconds = self._squares = self._products = 0.0
        self._base = 0.0
        """Seconds of a step without tokens."""
        self._slope = 0.0
        """Seconds a token."""

    def observe(self, record: StepRecord) -> None:
        """A step was computed."""
        tokens, seconds = record.num_tokens, record.seconds
        self._weight = _FORGET * self._weight + 1
        self._tokens = _FORGET * self._tokens + tokens
        self._seconds = _FORGET * self._seconds + seconds
        self._squares = _FORGET * self._squares + tokens * tokens
        self._products = _FORGET * self._products + tokens * seconds
        tokens, seconds = self._tokens / self._weight, self._seconds / self._weight
        variance = self._squares / self._weight - tokens * tokens
        covariance = self._products / self._weight - tokens * seconds
        slope = covariance / variance if variance > 1e-9 * tokens * tokens else 0.0
        self._slope = min(max(slope, 0.0), seconds / tokens)  # neither part is negative
        self._base = seconds - self._slope * tokens

    def seconds(self, tokens: float) -> float:
        """Of a step of so many tokens."""
        return self._base + self._slope * tokens

    def tokens_within(self, seconds: float, most: int) -> int:
        """The tokens of the largest step that takes at most so long; 0 to `most`."""
        left = seconds - self._base
        if left < 0:
            return 0
        return most if self._slope * most <= left else int(left / self._slope)
