"""What changed in the prefix index, for those who remember what they found in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

from quire.interfaces import CachedBlock


class IndexLog:
    """Counts publications, and keeps the latest removals, of all groups."""

    def __init__(self, *, length: int = 4096) -> None:
        self.publications = 0
        self.removals = 0
        self._recent: deque[CachedBlock] = deque(maxlen=length)

    def remove(self, block: CachedBlock) -> None:
        """`block` is not in the index any more."""
        self.removals += 1
        self._recent.append(block)

    def removed_since(self, removals: int) -> Sequence[CachedBlock] | None:
        """The blocks removed after the first `removals`; None if some of them are too long ago."""
        number = self.removals - removals
        if number > len(self._recent):
            return None
        return tuple(islice(reversed(self._recent), number))
