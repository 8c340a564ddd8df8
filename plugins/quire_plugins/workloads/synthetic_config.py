"""The options of `workload=synthetic`."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from quire.errors import UserError
from quire_plugins.workloads.limits import TooLong
from quire_plugins.workloads.tenants import Tenant, read_tenant


class Arrivals(enum.Enum):
    """How requests arrive; `closed` is a fixed number of users, each of whom waits for an answer."""

    poisson = "poisson"
    gamma = "gamma"
    weibull = "weibull"
    on_off = "on_off"
    diurnal = "diurnal"
    closed = "closed"


class Lengths(enum.Enum):
    """Where lengths come from: a lognormal distribution, that of a public trace, or given knots."""

    lognormal = "lognormal"
    azure_conv = "azure_conv"
    azure_code = "azure_code"
    sharegpt = "sharegpt"
    mooncake = "mooncake"
    knots = "knots"


@dataclass
class SyntheticConfig:
    """Options of `workload=synthetic`."""

    requests: int = 64
    """How many requests."""
    rate: float | None = None
    """Conversations (or requests, where each has one turn) a second; null: all at once."""
    arrivals: Arrivals = Arrivals.poisson
    """How they arrive, where there is a rate; closed needs none."""
    cv: float = 2.0
    """Coefficient of variation of the gaps between arrivals, for gamma and weibull; 1 is as in Poisson."""
    on: float = 10.0
    """Mean seconds of a period with arrivals, for on_off."""
    off: float = 10.0
    """Mean seconds of a period without."""
    period: float = 3600.0
    """Seconds of a day, for diurnal."""
    amplitude: float = 0.8
    """Fraction by which the rate swings, for diurnal, in [0, 1]."""
    concurrency: int = 8
    """Users, for closed: each begins a conversation when its last one has ended."""
    lengths: Lengths = Lengths.lognormal
    """Where lengths come from."""
    prompt_mean: float = 220.0
    """Mean prompt length in tokens, before the cap; for lognormal."""
    prompt_sigma: float = 0.5
    """Standard deviation of its logarithm; 0: all alike."""
    prompt_cap: int | None = None
    """Longest prompt; null: what the longest output leaves, or half of the longest sequence."""
    output_mean: float = 180.0
    """Mean output length in tokens, before the cap; every output is made exactly as long as drawn."""
    output_sigma: float = 0.5
    """Standard deviation of its logarithm; 0: all alike."""
    output_cap: int | None = None
    """Longest output, which is also what requests declare; null: what the longest prompt leaves."""
    prompt_knots: list[float] = field(default_factory=list)
    """Lengths at evenly spaced quantiles from the shortest to the longest, for knots."""
    output_knots: list[float] = field(default_factory=list)
    """The same of outputs, as many."""
    correlation: float | None = None
    """Between the lengths of prompt and output (of the copula's normals), in (-1, 1), for all but lognormal;
    null: the trace's own, or 0."""
    shared_prefix: int = 0
    """Tokens at the start of every prompt that are a system prompt, shared with others."""
    prefixes: int = 1
    """How many different system prompts there are."""
    documents: int = 0
    """Documents that prompts quote after the system prompt; 0: none."""
    document_tokens: int = 256
    """Tokens of each."""
    documents_each: int = 1
    """How many different ones a conversation begins with."""
    popularity: float = 1.0
    """Zipf's exponent: how much the first system prompts and documents are chosen before others; 0: all
    alike."""
    turns: float = 1.0
    """Mean turns of a conversation (geometric). Each begins with all that was said before, and arrives when
    the answer before it has come and the user has thought."""
    think: float = 0.0
    """Mean seconds that a user thinks before the next turn (exponential)."""
    tenants: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Classes of users by name, each with `weight` (1; its share of conversations is this of the sum of all),
    `priority` (0; the smaller the more urgent) and `deadline` (null; seconds after arrival). None: all are of
    the tenant "default"."""
    too_long: TooLong = TooLong.drop
    """What becomes of requests longer than the engine admits."""

    def __post_init__(self) -> None:
        def check(name: str, holds: bool, allowed: str) -> None:
            value = getattr(self, name)
            if not holds:
                shown = value.value if isinstance(value, enum.Enum) else value
                raise UserError(f"workload.{name}={shown}: must be {allowed}")

        for name in ("requests", "prompt_cap", "output_cap", "concurrency", "prefixes", "documents_each"):
            value = getattr(self, name)
            check(name, value is None or value >= 1, "at least 1")
        for name in ("shared_prefix", "documents"):
            check(name, getattr(self, name) >= 0, "at least 0")
        check("document_tokens", self.document_tokens >= 1, "at least 1")
        for name in ("prompt_mean", "output_mean"):
            check(name, 1 <= getattr(self, name) < float("inf"), "a number of tokens >= 1")
        for name in ("prompt_sigma", "output_sigma", "off", "think", "popularity"):
            check(name, 0 <= getattr(self, name) < float("inf"), "a finite number >= 0")
        for name in ("on", "period"):
            check(name, 0 < getattr(self, name) < float("inf"), "a finite number of seconds > 0")
        rate = self.rate
        check(
            "rate", rate is None or 0 < rate < float("inf"), "more than 0 a second, or null for all at once"
        )
        closed = self.arrivals is Arrivals.closed
        check("rate", not closed or rate is None, "null where arrivals=closed: users come as they are served")
        check("cv", 0.1 <= self.cv <= 20, "from 0.1 to 20")
        check("amplitude", 0 <= self.amplitude <= 1, "in [0, 1]")
        check("turns", 1 <= self.turns < float("inf"), "a number >= 1")
        check("documents_each", self.documents_each <= max(1, self.documents), "at most workload.documents")
        correlation = self.correlation
        check("correlation", correlation is None or -1 < correlation < 1, "in (-1, 1), or null")
        if self.lengths is Lengths.knots:
            for name in ("prompt_knots", "output_knots"):
                knots = list(getattr(self, name))
                rising = len(knots) >= 2 and knots == sorted(knots) and knots[0] >= 1
                check(name, rising, "at least 2 lengths >= 1, rising")
            check("output_knots", len(self.output_knots) == len(self.prompt_knots), "as many as prompt_knots")
        self.tenant_classes()

    def tenant_classes(self) -> dict[str, Tenant]:
        """The tenants by name, at least one."""
        return {name: read_tenant(name, each) for name, each in (self.tenants or {"default": {}}).items()}
