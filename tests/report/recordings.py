"""The files that a run leaves, made up: what is in them is known exactly."""

import json
from pathlib import Path

import msgspec
import numpy as np

from quire.engine.records import RequestRecord, StepRecord
from quire.metrics.summary import Summary


def sample(index: int = 0, *, arrival: float = 0.0, ttft: float = 0.5, gaps=(0.1, 0.1), **changes):
    """A record that is scheduled half way to its first token."""
    times = [float(t) for t in arrival + ttft + np.cumsum([0.0, *gaps])]
    fields = {
        "request_id": f"r{index}",
        "sample": 0,
        "tenant": "default",
        "arrival": arrival,
        "num_prompt_tokens": 10,
        "num_computed_tokens": 12,
        "first_scheduled": arrival + ttft / 2,
        "token_times": times,
        "finish": times[-1],
        "finish_reason": "length",
    }
    return RequestRecord(**(fields | changes))


def step(index: int, start: float, end: float, **changes) -> StepRecord:
    fields = {
        "index": index,
        "start": start,
        "end": end,
        "seconds": end - start,
        "schedule_seconds": 1e-5,
        "num_tokens": 12,
        "num_sequences": 3,
        "prefill_tokens": 10,
        "decode_sequences": 2,
        "context_tokens": 30,
        "max_context": 20,
        "num_running": 3,
        "num_waiting": 1,
        "num_preempted": 0,
        "kv_used": 4,
        "kv_cached": 2,
        "kv_total": 8,
        "kv_tokens_used": 50,
        "kv_tokens_reserved": 64,
    }
    return StepRecord(**(fields | changes))


def write_run(
    directory: Path,
    requests,
    steps=(),
    *,
    seed=1,
    scheduler="fcfs",
    options=None,
    finished=True,
    error=None,
    **config,
) -> Path:
    """A run's directory; `finished=False` leaves the summary out, as a killed run does."""
    directory.mkdir(parents=True)
    description = {
        "config": {
            "model": "demo",
            "seed": seed,
            "scheduler": options or {},
            "engine": {"max_sequences": 64},
            "workload": {"rate": 4.0},
            "slo": {},
            "tracker": {"flush_records": seed},
        }
        | config,
        "choices": {"scheduler": scheduler, "workload": "synthetic"},
        "command": ["run.py", f"scheduler={scheduler}"],
        "distributions": {"quire": {"version": "0", "commit": "c0ffee"}},
        "machine": {"cpu": "a cpu", "cores": 2},
    }
    (directory / "config.json").write_text(json.dumps(description))
    for name, records in (("requests", requests), ("steps", steps)):
        (directory / f"{name}.jsonl").write_bytes(msgspec.json.Encoder(enc_hook=float).encode_lines(records))
    summary = Summary()
    for record in requests:
        summary.add_request(record)
    for record in steps:
        summary.add_step(record)
    if finished:
        content = {"interrupted": error is not None, "error": error, **summary.metrics()}
        (directory / "summary.json").write_text(json.dumps(content))
    return directory


def served(seed: int, *, count=40, slower=1.0, noise=0.1) -> list[RequestRecord]:
    """Requests of a seed; those of another arm differ by the factor `slower` on all latencies."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(0.25, count))
    level = 0.3 * np.exp(noise * rng.standard_normal())
    return [
        sample(
            index,
            arrival=float(arrival),
            ttft=slower * level * float(np.exp(noise * rng.standard_normal())),
            gaps=[slower * 0.02 * float(g) for g in rng.exponential(1.0, 10)],
            num_prompt_tokens=int(rng.integers(5, 50)),
        )
        for index, arrival in enumerate(arrivals)
    ]
