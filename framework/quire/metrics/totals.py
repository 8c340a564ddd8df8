"""What a run's totals are gathered in."""

from __future__ import annotations

from dataclasses import dataclass, field

from quire.config.slo import SloConfig
from quire.engine.records import RequestRecord, StepRecord
from quire.metrics.fairness import TenantService


@dataclass(kw_only=True, slots=True)
class Tally:
    """A mean in the making."""

    count: int = 0
    total: float = 0.0

    @property
    def mean(self) -> float:
        return self.total / self.count


@dataclass(kw_only=True, slots=True)
class Totals:
    """Sums and extremes over a run, from which its `TotalMetric`s follow."""

    requests: int = 0
    """Requests of which at least one sample completed."""
    completed: int = 0
    failed: int = 0
    aborted: int = 0
    """Samples, by how they ended."""
    prompt_tokens: int = 0
    """Of those requests, once each."""
    output_tokens: int = 0
    """Of completed samples."""
    looked_up_tokens: int = 0
    """Prompt tokens of all samples that were ever scheduled."""
    cached_tokens: int = 0
    """Those of them that a cached prefix (or a fork) spared."""
    preemptions: int = 0
    recomputed_tokens: int = 0
    swaps: int = 0
    swap_fallbacks: int = 0
    bytes_to_host: int = 0
    bytes_from_host: int = 0
    bytes_copied: int = 0
    copy_seconds: float = 0.0
    """Of KV copies, over all steps."""
    steps: int = 0
    busy_seconds: float = 0.0
    """Sum of step durations."""
    schedule_seconds: float = 0.0
    """Wall time of the scheduler, all steps together."""
    slo: SloConfig = field(default_factory=SloConfig)
    good: int = 0
    """Completed samples that keep the objectives of `slo` for requests."""
    service: TenantService = field(default_factory=TenantService)
    latencies: dict[str, Tally] = field(default_factory=dict[str, Tally])
    """Of each tenant: normalized_latency_s of its completed samples."""
    start: float = float("inf")
    """Earliest arrival or start of a step."""
    end: float = float("-inf")
    """Latest finish of a sample or end of a step."""

    @property
    def duration(self) -> float:
        return max(0.0, self.end - self.start)

    def add_step(self, record: StepRecord) -> None:
        """What a committed step adds."""
        self.start = min(self.start, record.start)
        self.end = max(self.end, record.end)
        self.steps += 1
        self.busy_seconds += record.seconds
        self.swaps += record.num_swapped
        self.swap_fallbacks += record.num_swap_fallbacks
        self.bytes_to_host += record.bytes_to_host
        self.bytes_from_host += record.bytes_from_host
        self.bytes_copied += record.bytes_copied
        self.copy_seconds += record.copy_seconds
        self.schedule_seconds += record.schedule_seconds


def recomputed_tokens(record: RequestRecord) -> int:
    """Tokens computed more than once for a preempted sample.

    Without preemption, P prompt tokens of which C are cached, and O output tokens cost P - C + O - 1
    computed tokens: the last token sampled is never put through the model again (but with overlap a row may
    be in flight when the sample ends: that one counts here too).
    """
    if not record.num_preemptions:
        return 0
    once = record.num_prompt_tokens - record.num_cached_tokens + record.num_output_tokens - 1
    return max(0, record.num_computed_tokens - once)
