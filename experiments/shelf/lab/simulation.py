"""One run of the engine on a virtual clock: real policies, foretold step durations."""

from __future__ import annotations

import hashlib
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quire.config.compose import compose
from quire.engine.records import RequestRecord
from quire.engine.request import Request
from quire.engine.sequence import FinishReason
from quire.interfaces.allocator import KVStats
from quire.jobs.feed import serve
from quire.metrics.summary import Summary
from quire.registry import load_registry
from quire.run import Run

ROOT = Path(__file__).resolve().parents[3]
CALIBRATED = "experiments/shelf/cpu.json"
"""Fitted to real runs of a 135M Llama on both cores of a CPU, where reading a prompt takes most of the time.
The shelf's own: `simulator_fidelity` fits anew, on one thread, whenever it is recorded.
"""
STATED = "experiments/shelf/accelerator.json"
"""A 7B model on one accelerator, from data sheets: there each decode step waits for the weights."""
WARM_UP = 0.1
"""The first so many of the requests, by arrival, do not count in latencies: they meet an empty engine."""
BLOCK_TOKENS = 128
BASE = (
    "model=experiments/shelf/model",
    "device=cpu",
    "dtype=bfloat16",
    "executor=simulated",
    "cost_model=linear",
    f"engine.block_size={BLOCK_TOKENS}",
)
REAL = ("model=demo", "device=cpu", "dtype=float32", "executor=local")
"""The bundled model, really computed, where it matters what is generated."""
_TOKEN_BYTES = 23_040
"""KV of a token: 30 layers, 3 heads of 64 numbers, keys and values in 16 bits."""
_STATED_TOKEN_BYTES = 2**19
"""On the stated accelerator: 32 layers, 32 heads of 128 numbers, keys and values in 16 bits."""


def kv_tokens(tokens: int) -> str:
    """KV memory for so many tokens, as an override."""
    return f"engine.kv_bytes={tokens * _TOKEN_BYTES}"


def host_tokens(tokens: int) -> str:
    """Host memory for the KV of so many tokens, as an override."""
    return f"allocator.host_bytes={tokens * _TOKEN_BYTES}"


def copying(bytes_per_s: float) -> str:
    """KV is copied at that rate, on the stated accelerator, where a token's is larger than that of the model
    whose shape is loaded here; as an override.
    """
    return f"executor.copy_bytes_per_s={bytes_per_s * _TOKEN_BYTES / _STATED_TOKEN_BYTES}"


def machine(path: str) -> str:
    """The steps take as long as that cost model says, as an override."""
    return f"cost_model.path={path}"


Dress = Callable[[Iterable[Request], int], Iterator[Request]]
"""Gives the requests of a seed what a trace does not tell: deadlines, tenants. Their order stays. Later
turns of a conversation come as they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a run came to."""

    metrics: Mapping[str, Any]
    """The whole run's (`quire.metrics.definitions`)."""
    steady: Mapping[str, Any]
    """Those of the requests after the warm-up."""
    records: Sequence[RequestRecord]
    """One a request, in order of arrival."""
    requests: Mapping[str, Request]
    """As they were added, less their prompts."""
    prompt_blocks: Mapping[str, Sequence[bytes]]
    """Of each request's prompt the whole blocks of BLOCK_TOKENS, named by all tokens up to their end."""
    token_ids: Mapping[str, Sequence[int]]
    """What was generated, for each request."""
    kv: KVStats
    notes: Mapping[str, Any]
    """The workload's."""


def simulate(
    overrides: Sequence[str], *, seed: int, dress: Dress | None = None, base: Sequence[str] = BASE
) -> Outcome:
    """Serve the workload that `overrides` name, with cold caches. Raises RuntimeError if a request fails."""
    registry = load_registry()
    config = compose([*map(_located, (*base, *overrides)), f"seed={seed}"], registry)
    run = Run(config=config, registry=registry, directory=Path())
    workload, engine = run.workload(), run.engine(with_text=False)
    requests = run.requests(workload, engine)
    served: dict[str, Request] = {}
    prompt_blocks: dict[str, list[bytes]] = {}

    def noted(stream: Iterable[Request]) -> Iterator[Request]:
        for request in stream:
            served[request.id] = replace(request, prompt_token_ids=(0,))
            prompt_blocks[request.id] = name_blocks(request.prompt_token_ids)
            yield request

    def follow(
        request: Request, token_ids: Sequence[int], reason: FinishReason, now: float
    ) -> Iterable[Request]:
        return noted(workload.on_end(request, token_ids, reason, now))

    summary, records = Summary(), list[RequestRecord]()
    token_ids: dict[str, list[int]] = defaultdict(list)
    stream = noted(requests if dress is None else dress(requests, seed))
    for outputs in serve(engine, stream, follow=follow if workload.reacts else None, whole=True):
        for step in engine.take_records():
            summary.add_step(step)
        for output in outputs:
            token_ids[output.request_id].extend(output.token_ids)
            if output.error is not None:
                raise RuntimeError(f"{output.request_id}: {output.error}")
            if output.record is not None:
                summary.add_request(output.record)
                records.append(output.record)
    engine.allocator.check_integrity()
    places = {name: place for place, name in enumerate(served)}
    records.sort(key=lambda record: places[record.request_id])
    steady = Summary()
    for record in records[int(WARM_UP * len(records)) :]:
        steady.add_request(record)
    outcome = Outcome(
        metrics=summary.metrics(),
        steady=steady.metrics(),
        records=records,
        requests=served,
        prompt_blocks=prompt_blocks,
        token_ids=token_ids,
        kv=engine.allocator.stats(),
        notes=workload.notes(),
    )
    engine.close()
    return outcome


def name_blocks(tokens: Sequence[int]) -> list[bytes]:
    """The whole blocks of a prompt, each named by a digest of all tokens up to its end."""
    digest, names = hashlib.blake2b(digest_size=12), list[bytes]()
    for end in range(BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS):
        digest.update(array("i", tokens[end - BLOCK_TOKENS : end]).tobytes())
        names.append(digest.digest())
    return names


def _located(override: str) -> str:
    """Paths of this repository from its root, wherever the study was started."""
    key, _, value = override.partition("=")
    return f"{key}={ROOT / value}" if value.startswith("experiments/") else override
