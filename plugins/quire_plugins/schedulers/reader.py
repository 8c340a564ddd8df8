"""A user who reads tokens as they come, at a pace of their own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Reader:
    """Reads `rate` tokens a second while there are some left.

    tokens  delivered ___/
                   __/  __-- read: `rate` until it catches up, then as fast as tokens come
                __/__---
                  area: under the curve of tokens read
    """

    rate: float
    time: float
    """Up to when it is known what was read."""
    read: float = 0.0
    """Tokens."""
    area: float = 0.0
    """Token seconds under the curve of tokens read."""

    def read_until(self, now: float, *, delivered: int) -> None:
        """Time goes on to `now`, all the while with `delivered` tokens there."""
        seconds = now - self.time
        self.area += self.area_ahead(seconds, delivered, 0.0)
        self.read = max(self.read, min(delivered, self.read + self.rate * seconds))
        self.time = now

    def area_ahead(self, seconds: float, delivered: int, token_rate: float) -> float:
        """The area that the next `seconds` would add if `token_rate` tokens came a second."""
        ahead = max(0.0, delivered - self.read)
        closing = self.rate - token_rate
        catching_up = seconds if closing <= 0 else min(seconds, ahead / closing)
        following = seconds - catching_up
        then = self.read + self.rate * catching_up
        return (
            (self.read + then) / 2 * catching_up
            + then * following
            + min(self.rate, token_rate) * following**2 / 2
        )
