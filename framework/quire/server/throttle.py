"""How often pieces leave the engine: a limit to pieces a second, which all streams share.

A small model makes a token of each of many streams every few milliseconds; to send each by itself would take
more of the machine than to make it. Few streams get every token at once, and so do many if steps are slow.
First and last pieces are not asked about.
"""

from __future__ import annotations

from quire.clock import Clock


class Throttle:
    """Lets about `rate` pieces a second go, all of them at infinity."""

    def __init__(self, *, clock: Clock, rate: float) -> None:
        self._clock = clock
        self._rate = rate
        self._sent = float("-inf")

    def lets(self, pieces: int) -> bool:
        """Whether so many may go now, long enough after those before; if so, they count as gone."""
        now = self._clock.now()
        due = now - self._sent >= pieces / self._rate
        if due:
            self._sent = now
        return due
