"""A run as a time series: what happened in each interval of the engine's clock."""

from __future__ import annotations

from quire.engine.records import RequestRecord, StepRecord

_ROWS = 1000
"""After so many intervals, and again after as many more, they become twice as long: the number of rows then
grows with the logarithm of the run's length, and a million simulated requests are a few thousand rows."""


class Intervals:
    """Takes every record in the order of the run; each interval in which a step ended becomes a row.

    A row has `time_s`, its end in seconds since the first step began; rates over the interval; means over its
    steps; queues and memory at its last step; and the latencies of samples whose end was reported in it.
    """

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._rows = 0
        self._origin: float | None = None
        self._start = self._end = 0.0
        self._steps: list[StepRecord] = []
        self._requests: list[RequestRecord] = []

    def request(self, record: RequestRecord) -> None:
        """A sample ended."""
        self._requests.append(record)

    def step(self, record: StepRecord) -> dict[str, float] | None:
        """A step was committed: the row of the interval before it, if it is the first of a new one."""
        if self._origin is None:
            self._origin = self._start = record.start
            self._end = self._start + self._seconds
        row = None
        if record.end > self._end:
            row = self._row(self._end)
            self._start = self._end + (record.end - self._end) // self._seconds * self._seconds
            self._end = self._start + self._seconds
        self._steps.append(record)
        return row

    def rest(self) -> dict[str, float] | None:
        """The run is over: the row of the interval that it ended in."""
        if not self._steps:
            return None
        self._start = min(self._start, self._steps[0].start)  # or a sliver of an interval would have any rate
        return self._row(self._steps[-1].end)

    def _row(self, end: float) -> dict[str, float] | None:
        steps, requests = self._steps, self._requests
        if not steps or self._origin is None:
            return None
        self._steps, self._requests = [], []
        self._rows += 1
        if self._rows % _ROWS == 0:
            self._seconds *= 2
        span, last = max(end - self._start, 1e-9), steps[-1]
        row = {
            "time_s": end - self._origin,
            "output_tokens_per_s": sum(step.samples for step in steps) / span,
            "prefill_tokens_per_s": sum(step.prefill_tokens for step in steps) / span,
            "busy_fraction": sum(step.seconds for step in steps) / span,
            "step_s": sum(step.seconds for step in steps) / len(steps),
            "schedule_us": sum(step.schedule_seconds for step in steps) / len(steps) * 1e6,
            "step_sequences": sum(step.num_sequences for step in steps) / len(steps),
            "step_tokens": sum(step.num_tokens for step in steps) / len(steps),
            "running": last.num_running,
            "waiting": last.num_waiting,
            "kv_use": last.kv_used / last.kv_total,
            "kv_cached": last.kv_cached / last.kv_total,
            "preemptions": sum(step.num_preempted for step in steps),
            "ended": len(requests),
        }
        ttft = [r.token_times[0] - r.arrival for r in requests if r.token_times]
        e2e = [r.finish - r.arrival for r in requests if r.token_times and r.finish is not None]
        for name, values in (("ttft_s", ttft), ("e2e_s", e2e)):
            if values:
                row |= {name: sum(values) / len(values), f"{name}_max": max(values)}
        return row
