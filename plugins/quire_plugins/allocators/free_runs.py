"""Free memory as runs of adjacent blocks."""

from __future__ import annotations

from bisect import bisect_left


class FreeRuns:
    """The free runs of one pool, in order of address; neighbours are merged at once."""

    def __init__(self, num_blocks: int) -> None:
        self.num_free = num_blocks
        self._starts = [0]
        self._lengths = [num_blocks]

    def take(self, length: int) -> int | None:
        """The start of `length` adjacent blocks, from the first run that is long enough; None if none is."""
        for place, available in enumerate(self._lengths):
            if available >= length:
                start = self._starts[place]
                self._cut(place, length)
                return start
        return None

    def length_at(self, start: int) -> int:
        """How many blocks are free from `start` on, without a gap."""
        place = bisect_left(self._starts, start)
        found = place < len(self._starts) and self._starts[place] == start
        return self._lengths[place] if found else 0

    def take_at(self, start: int, length: int) -> None:
        """Take the first `length` blocks of the run that begins at `start`."""
        self._cut(bisect_left(self._starts, start), length)

    def give(self, start: int, length: int) -> None:
        """Take back `length` blocks from `start` on."""
        place = bisect_left(self._starts, start)
        self._starts.insert(place, start)
        self._lengths.insert(place, length)
        self.num_free += length
        self._merge(place)
        if place > 0:
            self._merge(place - 1)

    def _cut(self, place: int, length: int) -> None:
        """Shorten the run at `place` by `length` blocks from its start."""
        self._starts[place] += length
        self._lengths[place] -= length
        self.num_free -= length
        if self._lengths[place] == 0:
            del self._starts[place], self._lengths[place]

    def _merge(self, place: int) -> None:
        """Join the run at `place` with the next one if they touch."""
        end = self._starts[place] + self._lengths[place]
        if place + 1 < len(self._starts) and self._starts[place + 1] == end:
            self._lengths[place] += self._lengths.pop(place + 1)
            del self._starts[place + 1]

    def runs(self) -> list[tuple[int, int]]:
        """(start, length) of every run, in order of address."""
        return list(zip(self._starts, self._lengths, strict=True))
