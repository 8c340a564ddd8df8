"""Output lengths seen so far, as a distribution that can be asked given that an output goes on."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from itertools import accumulate


class Lengths:
    """The last `window` lengths (None: all), sorted. Adding costs a move in memory; asking, O(log n)."""

    def __init__(self, *, window: int | None = None) -> None:
        self._sorted: list[int] = []
        self._window = window
        self._recent: deque[int] = deque()
        self._sums: list[int] | None = None
        """Sums of the lengths before each place; None if lengths were added since."""

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, length: int) -> None:
        """One more; the oldest goes if the window is full."""
        if self._window is not None:
            self._recent.append(length)
            if len(self._recent) > self._window:
                del self._sorted[bisect_left(self._sorted, self._recent.popleft())]
        insort(self._sorted, length)
        self._sums = None

    def share(self, *, above: int) -> float:
        """The share of lengths greater than `above`; there must be some."""
        return 1 - bisect_right(self._sorted, above) / len(self._sorted)

    def mean(self, *, above: int) -> float | None:
        """Mean of the lengths greater than `above`; None if there are none."""
        first = bisect_right(self._sorted, above)
        if first == len(self._sorted):
            return None
        if self._sums is None:
            self._sums = list(accumulate(self._sorted, initial=0))
        return (self._sums[-1] - self._sums[first]) / (len(self._sorted) - first)

    def quantile(self, q: float, *, above: int = 0) -> int | None:
        """The smallest length greater than `above` that a share `q` of those does not exceed; None if there
        are none. 0 <= q < 1.
        """
        first = bisect_right(self._sorted, above)
        number = len(self._sorted) - first
        return self._sorted[first + int(q * number)] if number else None

    def place(self, length: int, tie: float) -> float:
        """The share of lengths below `length`, in [0, 1): where it is among equals, `tie` in [0, 1) says.

        For a length drawn from the same distribution as these, and a uniform `tie`, this is uniform. It must
        be among them.
        """
        low, high = bisect_left(self._sorted, length), bisect_right(self._sorted, length)
        return (low + tie * (high - low)) / len(self._sorted)
