"""What is measured: every metric with its unit and its formula, one entry each.

Times are differences of seconds on the engine's clock. A *sample* is one continuation of a request (a
request has `n`). It is *completed* if it ended by itself (`stop` or `length`), *failed* if it was refused or
broke (`error`), *aborted* if somebody called it off. Latencies are those of completed samples.

    arrival          first_scheduled      token 0    token 1         token 2 = last      finish
       |---- queue ----|                     |          |                |                 |
       |--------------- ttft ----------------|-- itl ---|----- itl ------|                 |
       |                                     |-- tpot = mean over these -|                 |
       |------------------------------------- e2e -----------------------------------------|
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

from quire.engine.records import RequestRecord, StepRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleMetric:
    """A distribution over completed samples; one sample gives no value, one, or many."""

    name: str
    unit: str
    formula: str
    values: Callable[[RequestRecord], Iterable[float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMetric:
    """A distribution over steps, one value each."""

    name: str
    unit: str
    formula: str
    value: Callable[[StepRecord], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class TotalMetric:
    """One number for the run; None where it is not defined (a rate over no time at all)."""

    name: str
    unit: str
    formula: str
    value: Callable[[Totals], float | None]


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
    steps: int = 0
    busy_seconds: float = 0.0
    """Sum of step durations."""
    start: float = float("inf")
    """Earliest arrival or start of a step."""
    end: float = float("-inf")
    """Latest finish of a sample or end of a step."""

    @property
    def duration(self) -> float:
        return max(0.0, self.end - self.start)


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


def _queue(record: RequestRecord) -> Iterable[float]:
    if record.first_scheduled is not None:
        yield record.first_scheduled - record.arrival


def _ttft(record: RequestRecord) -> Iterable[float]:
    if record.token_times:
        yield record.token_times[0] - record.arrival


def _tpot(record: RequestRecord) -> Iterable[float]:
    times = record.token_times
    if len(times) > 1:
        yield (times[-1] - times[0]) / (len(times) - 1)


def _itl(record: RequestRecord) -> Iterable[float]:
    return (later - earlier for earlier, later in pairwise(record.token_times))


def _itl_max(record: RequestRecord) -> Iterable[float]:
    if len(record.token_times) > 1:
        yield max(_itl(record))


def _e2e(record: RequestRecord) -> Iterable[float]:
    if record.finish is not None:
        yield record.finish - record.arrival


def _normalized(record: RequestRecord) -> Iterable[float]:
    if record.finish is not None and record.token_times:
        yield (record.finish - record.arrival) / record.num_output_tokens


def _per_second(total: float, totals: Totals) -> float | None:
    return total / totals.duration if totals.duration > 0 else None


SAMPLE_METRICS = (
    SampleMetric(name="queue_s", unit="s", formula="first_scheduled - arrival", values=_queue),
    SampleMetric(name="ttft_s", unit="s", formula="token_times[0] - arrival", values=_ttft),
    SampleMetric(
        name="tpot_s",
        unit="s/token",
        formula="(token_times[-1] - token_times[0]) / (output tokens - 1), from 2 output tokens on",
        values=_tpot,
    ),
    SampleMetric(
        name="itl_s",
        unit="s",
        formula="token_times[i + 1] - token_times[i], every token of every sample",
        values=_itl,
    ),
    SampleMetric(name="itl_max_s", unit="s", formula="a sample's longest itl_s", values=_itl_max),
    SampleMetric(name="e2e_s", unit="s", formula="finish - arrival", values=_e2e),
    SampleMetric(
        name="normalized_latency_s",
        unit="s/token",
        formula="(finish - arrival) / output tokens (Yu et al., Orca, OSDI 2022, section 6.2)",
        values=_normalized,
    ),
    SampleMetric(
        name="sample_prompt_tokens",
        unit="tokens",
        formula="prompt tokens of a sample",
        values=lambda record: (record.num_prompt_tokens,),
    ),
    SampleMetric(
        name="sample_output_tokens",
        unit="tokens",
        formula="output tokens of a sample",
        values=lambda record: (record.num_output_tokens,),
    ),
)

STEP_METRICS = (
    StepMetric(
        name="step_s", unit="s", formula="a step's duration on the executor", value=lambda step: step.seconds
    ),
    StepMetric(
        name="schedule_us",
        unit="us",
        formula="wall time the scheduler took for a step",
        value=lambda step: step.schedule_seconds * 1e6,
    ),
    StepMetric(
        name="step_sequences",
        unit="sequences",
        formula="sequences in a step",
        value=lambda step: step.num_sequences,
    ),
    StepMetric(
        name="step_tokens", unit="tokens", formula="tokens in a step", value=lambda step: step.num_tokens
    ),
    StepMetric(
        name="kv_use",
        unit="fraction",
        formula="KV blocks that sequences hold / all KV blocks, at a step",
        value=lambda step: step.kv_used / step.kv_total,
    ),
)

TOTAL_METRICS = (
    TotalMetric(
        name="requests",
        unit="requests",
        formula="requests with at least one completed sample",
        value=lambda t: t.requests,
    ),
    TotalMetric(
        name="completed", unit="samples", formula="ended by stop or length", value=lambda t: t.completed
    ),
    TotalMetric(name="failed", unit="samples", formula="refused or broken", value=lambda t: t.failed),
    TotalMetric(name="aborted", unit="samples", formula="called off", value=lambda t: t.aborted),
    TotalMetric(
        name="duration_s",
        unit="s",
        formula="latest finish or end of a step - earliest arrival or start of a step",
        value=lambda t: t.duration,
    ),
    TotalMetric(
        name="busy_fraction",
        unit="fraction",
        formula="sum of step_s / duration_s",
        value=lambda t: _per_second(t.busy_seconds, t),
    ),
    TotalMetric(
        name="prompt_tokens",
        unit="tokens",
        formula="prompt tokens of `requests`, once a request",
        value=lambda t: t.prompt_tokens,
    ),
    TotalMetric(
        name="output_tokens",
        unit="tokens",
        formula="output tokens of completed samples",
        value=lambda t: t.output_tokens,
    ),
    TotalMetric(
        name="requests_per_s",
        unit="requests/s",
        formula="requests / duration_s",
        value=lambda t: _per_second(t.requests, t),
    ),
    TotalMetric(
        name="output_tokens_per_s",
        unit="tokens/s",
        formula="output_tokens / duration_s",
        value=lambda t: _per_second(t.output_tokens, t),
    ),
    TotalMetric(
        name="total_tokens_per_s",
        unit="tokens/s",
        formula="(prompt_tokens + output_tokens) / duration_s",
        value=lambda t: _per_second(t.prompt_tokens + t.output_tokens, t),
    ),
    TotalMetric(name="steps", unit="steps", formula="steps committed", value=lambda t: t.steps),
    TotalMetric(
        name="preemptions",
        unit="preemptions",
        formula="preemptions of all samples",
        value=lambda t: t.preemptions,
    ),
    TotalMetric(
        name="recomputed_tokens",
        unit="tokens",
        formula="tokens computed again after preemptions, all samples",
        value=lambda t: t.recomputed_tokens,
    ),
    TotalMetric(
        name="prefix_hit_rate",
        unit="fraction",
        formula="prompt tokens spared by a cached prefix or a fork / prompt tokens, all samples scheduled",
        value=lambda t: t.cached_tokens / t.looked_up_tokens if t.looked_up_tokens else None,
    ),
)

METRICS = {metric.name: metric for metric in (*TOTAL_METRICS, *SAMPLE_METRICS, *STEP_METRICS)}
"""All of them, by the name they have in a summary."""
