"""How evenly tenants are served over time: what each asked for and got, window by window.

    service of a request = prompt tokens + 2 * output tokens     (Sheng et al., VTC, OSDI 2024)

It is asked for when the request arrives. Of it, the prompt is served with the first token, the rest token by
token. A tenant's *backlog* at the end of a window is what it asked for so far and did not get yet: one whose
requests are all served had its fair share, however little that was.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from quire.engine.records import RequestRecord

if TYPE_CHECKING:
    import numpy as np

PROMPT_WEIGHT = 1.0
OUTPUT_WEIGHT = 2.0
MAX_WINDOWS = 1024


class TenantService:
    """Windows are of one second, and twice as long whenever a run would have more than `MAX_WINDOWS`."""

    def __init__(self) -> None:
        self._width = 1.0
        self._asked: defaultdict[str, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
        self._got: defaultdict[str, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))

    @property
    def tenants(self) -> list[str]:
        """In order of their names."""
        return sorted(self._asked)

    def add(self, record: RequestRecord) -> None:
        """A completed sample."""
        times = record.token_times
        prompt = PROMPT_WEIGHT * record.num_prompt_tokens
        while times and times[-1] / self._width >= MAX_WINDOWS:
            self._widen()
        width = self._width
        self._asked[record.tenant][int(record.arrival / width)] += prompt + OUTPUT_WEIGHT * len(times)
        got = self._got[record.tenant]
        for place, time in enumerate(times):
            got[int(time / width)] += OUTPUT_WEIGHT if place else OUTPUT_WEIGHT + prompt

    def differences(self) -> list[float]:
        """Of each window: the sum over tenants of how much less they got than who got most, as far as they
        had backlog: min(most - got, backlog) (Sheng et al., the evaluation).
        """
        import numpy as np

        got_TW, backlog_TW = self._windows()
        if len(got_TW) < 2:
            return []
        return np.minimum(got_TW.max(axis=0) - got_TW, backlog_TW).sum(axis=0).tolist()

    def jain_indices(self) -> list[float]:
        """Of each window in which two or more tenants have backlog: Jain's index of what these got."""
        got_TW, backlog_TW = self._windows()
        found: list[float] = []
        for got_T, backlog_T in zip(got_TW.T, backlog_TW.T, strict=True):
            shares = got_T[backlog_T > 0]
            if len(shares) > 1 and shares.any():
                found.append(jain_index(shares.tolist()))
        return found

    def _windows(self) -> tuple[np.ndarray, np.ndarray]:
        """Service in each window, and backlog at its end; a row a tenant."""
        import numpy as np

        places = [place for bins in (*self._asked.values(), *self._got.values()) for place in bins]
        if not places:
            return np.zeros((0, 0)), np.zeros((0, 0))
        first, count = min(places), max(places) - min(places) + 1
        asked_TW, got_TW = np.zeros((len(self._asked), count)), np.zeros((len(self._asked), count))
        for row, tenant in enumerate(self.tenants):
            for bins, array_TW in ((self._asked, asked_TW), (self._got, got_TW)):
                for place, service in bins[tenant].items():
                    array_TW[row, place - first] = service
        return got_TW, asked_TW.cumsum(axis=1) - got_TW.cumsum(axis=1)

    def _widen(self) -> None:
        self._width *= 2
        for tenants in (self._asked, self._got):
            for tenant, bins in tenants.items():
                wider: defaultdict[int, float] = defaultdict(float)
                for place, service in bins.items():
                    wider[place // 2] += service
                tenants[tenant] = wider


def jain_index(shares: list[float]) -> float:
    """(sum x)^2 / (n * sum x^2), from 1/n (one gets everything) to 1 (Jain, Chiu and Hawe, 1984)."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))
