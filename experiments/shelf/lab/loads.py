"""What is served: a real trace where its file is at hand, else requests drawn from its distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

_TRACES = {
    "azure_conv": ("azure_2023_conv.csv", ("workload=azure_conv",), ("workload=azure_conv",)),
    "azure_code": ("azure_2023_code.csv", ("workload=azure_code",), ("workload=azure_code",)),
    "mooncake": (
        "mooncake_conversation.jsonl",
        ("workload=mooncake",),
        (
            *("workload=synthetic", "workload.lengths=mooncake", "workload.turns=4", "workload.think=60"),
            *("workload.shared_prefix=512", "workload.prefixes=8", "workload.rate=1"),
        ),
    ),
}
"""Name: file, overrides with the file, overrides without."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """A number of requests; those of one seed are the same in every arm."""

    requests: int
    overrides: tuple[str, ...]
    path: Path | None = None
    """The trace, of which each seed replays a part of its own."""
    lines: int = 0
    """Requests in that file."""
    rates: Mapping[int, float] = field(default_factory=dict[int, float])
    """Requests a second of each seed; none: as the trace or the overrides say."""

    @property
    def source(self) -> str:
        """The trace's file, or that there is none."""
        return "drawn from distributions" if self.path is None else self.path.name

    def at(self, seed: int) -> list[str]:
        """The overrides of one seed's requests."""
        size = "requests" if "workload=synthetic" in self.overrides else "limit"
        found = [*self.overrides, f"workload.{size}={self.requests}"]
        if self.path is not None:
            spare = max(self.lines - self.requests, 1)
            found += [f"workload.path={self.path}", f"workload.skip={seed * 3001 % spare}"]
        if seed in self.rates:
            found.append(f"workload.rate={self.rates[seed]}")
        return found

    def with_rates(self, rates: Mapping[int, float]) -> Load:
        """The same requests, arriving otherwise."""
        return replace(self, rates=rates)


def dataset(name: str, *, requests: int, traces: Path | None) -> Load:
    """The requests of a public trace; `traces` is the directory where its file may be."""
    file, replayed, drawn = _TRACES[name]
    if traces is None or not (traces / file).is_file():
        return Load(requests=requests, overrides=drawn)
    with open(traces / file, encoding="utf-8") as lines:
        count = sum(1 for _ in lines)
    return Load(requests=requests, overrides=replayed, path=traces / file, lines=count)


def everything_at_once(load: Load, seeds: range) -> Load:
    """The same requests within a moment."""
    return load.with_rates(dict.fromkeys(seeds, 1e6))
