"""Service level objectives: latencies to hold, of a request and of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from quire.errors import UserError

_OF_A_REQUEST = ("ttft", "tpot", "itl", "e2e")
_OF_A_RUN = tuple(f"{name}_{at}" for name in _OF_A_REQUEST for at in ("p50", "p90", "p99"))


@dataclass
class SloConfig:
    """Seconds that must not be exceeded; null: no objective.

    `ttft`, `tpot`, `itl` and `e2e` are of each request (`itl` of its longest gap), and decide which requests
    count as goodput. Those with a percentile are of a run, and decide what rate `task=capacity` finds.
    """

    ttft: float | None = None
    """Of each request: until its first token."""
    tpot: float | None = None
    """Of each request: mean time per further token."""
    itl: float | None = None
    """Of each request: its longest time between two tokens."""
    e2e: float | None = None
    """Of each request: until its end."""
    attainment: float | None = None
    """Of a run: the least fraction of requests that must keep the four above."""
    ttft_p50: float | None = None
    ttft_p90: float | None = None
    ttft_p99: float | None = None
    tpot_p50: float | None = None
    tpot_p90: float | None = None
    tpot_p99: float | None = None
    itl_p50: float | None = None
    itl_p90: float | None = None
    itl_p99: float | None = None
    e2e_p50: float | None = None
    e2e_p90: float | None = None
    e2e_p99: float | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 < value < float("inf"):
                raise UserError(f"slo.{field.name}={value}: must be a finite number > 0, or null")
        if self.attainment is not None:
            if self.attainment > 1:
                raise UserError(f"slo.attainment={self.attainment}: must be a fraction in (0, 1], or null")
            if not self.for_requests:
                raise UserError(
                    f"slo.attainment={self.attainment}: must be null without slo.ttft, slo.tpot, slo.itl or "
                    "slo.e2e to attain"
                )

    @property
    def for_requests(self) -> dict[str, float]:
        """The objectives of a request, by the name of its latency: `ttft`, `tpot`, `itl`, `e2e`."""
        given = {name: getattr(self, name) for name in _OF_A_REQUEST}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def for_runs(self) -> dict[str, float]:
        """The objectives of a run, by key: `ttft_p99` and such, and `attainment`."""
        given = {name: getattr(self, name) for name in (*_OF_A_RUN, "attainment")}
        return {name: value for name, value in given.items() if value is not None}

    def misses(self, summary: Mapping[str, Any]) -> Iterator[str]:
        """What a run's summary falls short of, a line each. A latency that no request has is not missed."""
        for key, bound in self.for_runs.items():
            if key == "attainment":
                found = summary["slo_attainment"]
                if found is not None and found < bound:
                    yield f"slo_attainment {found:.3f} < {bound:g}"
                continue
            name, at = key.split("_")
            values = summary[f"{name}_s"]
            if values is not None and values[at] > bound:
                yield f"{key} {values[at]:.4g} s > {bound:g} s"
