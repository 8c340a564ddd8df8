"""What is measured: every metric with its unit and its formula, one entry each.

A *sample* is one continuation of a request (a request has `n`). It is *completed* if it ended by itself
(`stop` or `length`), *failed* if it was refused or broke (`error`), *aborted* if somebody called it off.
Latencies (`quire.metrics.latencies`) are those of completed samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean

from quire.engine.records import RequestRecord, StepRecord
from quire.metrics import latencies
from quire.metrics.fairness import jain_index
from quire.metrics.totals import Totals


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


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupMetric:
    """Distributions by the name of what they are of; empty if there is none."""

    name: str
    unit: str
    formula: str


def _attainment(totals: Totals) -> float | None:
    ended = totals.completed + totals.failed
    return totals.good / ended if ended and totals.slo.for_requests else None


def _jain_latency(totals: Totals) -> float | None:
    means = [tally.mean for tally in totals.latencies.values()]
    return jain_index(means) if len(means) > 1 and any(means) else None


def _per_second(total: float, totals: Totals) -> float | None:
    return total / totals.duration if totals.duration > 0 else None


SAMPLE_METRICS = (
    SampleMetric(name="queue_s", unit="s", formula="first_scheduled - arrival", values=latencies.queue),
    SampleMetric(name="ttft_s", unit="s", formula="token_times[0] - arrival", values=latencies.ttft),
    SampleMetric(
        name="tpot_s",
        unit="s/token",
        formula="(token_times[-1] - token_times[0]) / (output tokens - 1), from 2 output tokens on",
        values=latencies.tpot,
    ),
    SampleMetric(
        name="itl_s",
        unit="s",
        formula="token_times[i + 1] - token_times[i], every token of every sample",
        values=latencies.itl,
    ),
    SampleMetric(name="itl_max_s", unit="s", formula="a sample's longest itl_s", values=latencies.itl_max),
    SampleMetric(name="e2e_s", unit="s", formula="finish - arrival", values=latencies.e2e),
    SampleMetric(
        name="normalized_latency_s",
        unit="s/token",
        formula="(finish - arrival) / output tokens (Yu et al., Orca, OSDI 2022, section 6.2)",
        values=latencies.normalized,
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
    StepMetric(
        name="kv_cached",
        unit="fraction",
        formula="KV blocks that hold a prefix and no sequence / all KV blocks, at a step",
        value=lambda step: step.kv_cached / step.kv_total,
    ),
    StepMetric(
        name="kv_tokens_used",
        unit="tokens",
        formula="tokens in the blocks that sequences hold, at a step",
        value=lambda step: step.kv_tokens_used,
    ),
    StepMetric(
        name="kv_tokens_reserved",
        unit="tokens",
        formula="tokens that those blocks have room for",
        value=lambda step: step.kv_tokens_reserved,
    ),
    StepMetric(
        name="kv_wasted",
        unit="fraction",
        formula="1 - kv_tokens_used / kv_tokens_reserved; 0 where nothing is reserved",
        value=lambda step: (
            1 - step.kv_tokens_used / step.kv_tokens_reserved if step.kv_tokens_reserved else 0.0
        ),
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
    TotalMetric(
        name="goodput_per_s",
        unit="samples/s",
        formula="completed samples that keep slo.ttft, slo.tpot, slo.itl (itl_max_s) and slo.e2e / "
        "duration_s; none without one of them",
        value=lambda t: _per_second(t.good, t) if t.slo.for_requests else None,
    ),
    TotalMetric(
        name="slo_attainment",
        unit="fraction",
        formula="completed samples that keep them / (completed + failed)",
        value=_attainment,
    ),
    TotalMetric(
        name="service_difference",
        unit="tokens",
        formula="sum over tenants of min(most service of a tenant - its service, its backlog), mean over "
        "windows; service = prompt tokens + 2 * output tokens (Sheng et al., VTC, OSDI 2024)",
        value=lambda t: fmean(found) if (found := t.service.differences()) else None,
    ),
    TotalMetric(
        name="service_difference_max",
        unit="tokens",
        formula="service_difference of the worst window",
        value=lambda t: max(t.service.differences(), default=None),
    ),
    TotalMetric(
        name="jain_service",
        unit="fraction",
        formula="(sum x)^2 / (n sum x^2) of the service of the n tenants with backlog, mean over windows "
        "with n > 1 (Jain, Chiu and Hawe, 1984)",
        value=lambda t: fmean(found) if (found := t.service.jain_indices()) else None,
    ),
    TotalMetric(
        name="jain_latency",
        unit="fraction",
        formula="Jain's index of the tenants' mean normalized_latency_s",
        value=_jain_latency,
    ),
    TotalMetric(
        name="schedule_s",
        unit="s",
        formula="wall time the scheduler took, all steps",
        value=lambda t: t.schedule_seconds,
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
        name="swaps",
        unit="preemptions",
        formula="preemptions whose KV was kept in host memory",
        value=lambda t: t.swaps,
    ),
    TotalMetric(
        name="swap_fallbacks",
        unit="preemptions",
        formula="preemptions whose KV was to be kept in host memory and had to be given up: no room there",
        value=lambda t: t.swap_fallbacks,
    ),
    TotalMetric(
        name="bytes_to_host",
        unit="bytes",
        formula="KV copied to host memory, by eviction and swap",
        value=lambda t: t.bytes_to_host,
    ),
    TotalMetric(
        name="bytes_from_host",
        unit="bytes",
        formula="KV copied from host memory",
        value=lambda t: t.bytes_from_host,
    ),
    TotalMetric(
        name="bytes_copied",
        unit="bytes",
        formula="KV copied between blocks of device memory",
        value=lambda t: t.bytes_copied,
    ),
    TotalMetric(
        name="copy_s",
        unit="s",
        formula="what these copies took, of the sum of step_s",
        value=lambda t: t.copy_seconds,
    ),
    TotalMetric(
        name="prefix_hit_rate",
        unit="fraction",
        formula="prompt tokens spared by a cached prefix or a fork / prompt tokens, all samples scheduled",
        value=lambda t: t.cached_tokens / t.looked_up_tokens if t.looked_up_tokens else None,
    ),
)

GROUP_METRICS = (
    GroupMetric(
        name="tenants",
        unit="s, s/token, tokens",
        formula="ttft_s, e2e_s, normalized_latency_s and sample_output_tokens, of each tenant",
    ),
    GroupMetric(name="phase_s", unit="s", formula="a step's time on the executor, of each of its phases"),
)

METRICS = {metric.name: metric for metric in (*TOTAL_METRICS, *SAMPLE_METRICS, *STEP_METRICS, *GROUP_METRICS)}
"""All of them, by the name they have in a summary."""
