"""Records made up for trackers."""

from __future__ import annotations

from quire.engine.records import RequestRecord, StepRecord


def step(index: int, end: float, **fields) -> StepRecord:
    """Of 10 ms."""
    values = {
        "index": index,
        "start": end - 0.01,
        "end": end,
        "seconds": 0.01,
        "schedule_seconds": 1e-5,
        "num_tokens": 4,
        "num_sequences": 2,
        "prefill_tokens": 3,
        "decode_sequences": 1,
        "context_tokens": 9,
        "max_context": 6,
        "num_running": 2,
        "num_waiting": 1,
        "num_preempted": 0,
        "kv_used": 2,
        "kv_cached": 1,
        "kv_total": 8,
        "samples": 2,
        "phases": {"forward": 0.008},
    }
    return StepRecord(**(values | fields))


def request(finish: float, **fields) -> RequestRecord:
    """Of two tokens."""
    values = {
        "request_id": "ä-1",
        "sample": 0,
        "tenant": "default",
        "arrival": 0.1,
        "num_prompt_tokens": 3,
        "token_times": [0.2, 0.1 + 0.2],
        "finish": finish,
        "finish_reason": "stop",
    }
    return RequestRecord(**(values | fields))
