"""Digests of what every workload makes. A script too, for any Python that has numpy:

PYTHONPATH=framework:plugins:tests/workloads python3.13 tests/workloads/golden_workloads.py
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from quire.engine.sequence import FinishReason
from quire.interfaces.workload import WorkloadContext
from quire_plugins.workloads.azure import Azure
from quire_plugins.workloads.burstgpt import BurstGpt
from quire_plugins.workloads.demo import DemoWorkload
from quire_plugins.workloads.jsonl import JsonlWorkload
from quire_plugins.workloads.mooncake import Mooncake
from quire_plugins.workloads.qwen_bailian import QwenBailian
from quire_plugins.workloads.sharegpt import ShareGpt
from quire_plugins.workloads.synthetic import SyntheticWorkload
from quire_plugins.workloads.synthetic_config import Arrivals, Lengths

SYNTHETIC = {
    **{
        f"arrivals {each.value}": {"arrivals": each, "rate": 3.0}
        for each in Arrivals
        if each is not Arrivals.closed
    },
    **{f"lengths {each.value}": {"lengths": each} for each in Lengths if each is not Lengths.knots},
    "lengths knots": {
        "lengths": Lengths.knots,
        "prompt_knots": [1.0, 90.0, 500.0],
        "output_knots": [1.0, 9.0, 80.0],
        "correlation": -0.4,
    },
    "closed": {"arrivals": Arrivals.closed, "concurrency": 5, "think": 1.5},
    "turns": {
        "turns": 3.0,
        "think": 2.0,
        "rate": 1.0,
        "prompt_mean": 40.0,
        "output_mean": 10.0,
        "output_cap": 30,
    },
    "prefixes": {
        "shared_prefix": 20,
        "prefixes": 4,
        "documents": 9,
        "document_tokens": 30,
        "documents_each": 2,
    },
    "tenants": {"tenants": {"a": {"weight": 3.0, "deadline": 5.0}, "b": {"priority": 1}}, "rate": 2.0},
}
REPLAYED = {
    Azure: """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 23:59:59.9799600,374,44
2023-11-17 00:00:00.0319601,39,10
2023-11-17 00:00:02.9799600,8,1
""",
    BurstGpt: """\
Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,GPT-4,417,276,693,API log
""",
    Mooncake: """\
{"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]}
{"timestamp": 3500, "input_length": 600, "output_length": 3, "hash_ids": [0, 9]}
""",
    QwenBailian: """\
{"chat_id": 7, "parent_chat_id": -1, "timestamp": 61.1, "input_length": 20, "output_length": 9, "type": "text", "turn": 1, "hash_ids": [5, 6]}
{"chat_id": 8, "parent_chat_id": 7, "timestamp": 62.5, "input_length": 33, "output_length": 8, "type": "text", "turn": 2, "hash_ids": [5, 7, 8]}
""",  # noqa: E501 - as published
    ShareGpt: json.dumps(
        [
            {
                "conversations": [
                    {"from": "human", "value": f"Question {i}"},
                    {"from": "gpt", "value": "So" * (i + 1)},
                ]
            }
            for i in range(8)
        ]
    ),
    JsonlWorkload: '{"prompt": "Hello", "output_tokens": 3, "arrival": 0.5}\n',
}


class Bytes:
    """A tokenizer whose tokens are the bytes of the text."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [1] * add_special_tokens + list(text.encode())


def digests(directory: Path) -> dict[str, str]:
    """Of every request of every workload, by the workload's name; traces are written to `directory`."""
    found = {
        f"synthetic, {name}": _digest(SyntheticWorkload, requests=40, **options)
        for name, options in SYNTHETIC.items()
    }
    for kind, text in REPLAYED.items():
        path = directory / kind.__name__
        path.write_text(text, encoding="utf-8")
        found[kind.__name__] = _digest(kind, path=str(path))
    found["demo"] = _digest(DemoWorkload)
    return found


def _digest(kind, **options) -> str:
    """Of all that a workload decides, served by an engine that takes a second a request."""
    workload = kind(config=kind.Config(**options))
    tokenizer = Bytes() if workload.uses_text else None
    context = WorkloadContext(seed=7, vocab_size=1000, max_model_tokens=4096, tokenizer=tokenizer)
    waiting, made = list(workload.requests(context)), []
    while waiting:
        request = waiting.pop(0)
        made.append(
            (
                *(request.id, request.prompt_token_ids, request.arrival_time, request.forced_output_tokens),
                *(request.sampling.max_tokens, request.tenant, request.priority, request.deadline),
            )
        )
        if workload.reacts:
            answer = (1,) * request.forced_output_tokens
            waiting += workload.on_end(request, answer, FinishReason.LENGTH, request.arrival_time + 1.0)
    return hashlib.sha256(repr(made).encode()).hexdigest()[:16]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(digests(Path(directory)), indent=4))
