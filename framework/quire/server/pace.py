"""How fast requests have been ending: what to tell those that are turned away."""

from __future__ import annotations

from collections import deque

_REMEMBERED = 64
_SHARE = 0.1
_LEAST, _MOST = 1.0, 60.0


class Pace:
    """Remembers when the last requests ended."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=_REMEMBERED)

    def mark(self, now: float) -> None:
        """A request has ended at `now`, in seconds."""
        self._ends.append(now)

    def retry_after(self, waiting: int) -> float:
        """Seconds until a tenth of `waiting` requests will have ended at the recent pace, 1 to 60."""
        if len(self._ends) < 2:
            return _LEAST
        seconds_each = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        return min(max(waiting * _SHARE * seconds_each, _LEAST), _MOST)
