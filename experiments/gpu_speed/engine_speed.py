"""Steps and throughput of an engine with a model in the shape of an 8B Llama."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from azure import AzureRequests, azure_requests
from box import Box
from busy import Span, busy_per_step
from checkpoint import shape_of
from engines import Loaded, clear, decode_records, random_prompt, request

from quire.engine.engine import Engine
from quire.engine.records import StepRecord
from quire.interfaces.allocator import KVAllocator
from quire.interfaces.scheduler import Scheduler
from quire_plugins.allocators.contiguous import ContiguousAllocator
from quire_plugins.allocators.paged import PagedAllocator
from quire_plugins.schedulers.static import Static


class EngineSections:
    """The sections that share one loaded model."""

    def __init__(self, box: Box) -> None:
        began = time.perf_counter()
        self.loaded = Loaded(box.model, device=box.device, dtype="bfloat16")
        box.row(what="loading", seconds=time.perf_counter() - began)

    def decode(self, box: Box) -> None:
        """Seconds of a step in which every sequence gets one token, and of it how long the GPU computes."""
        rows = [(1, 1024), (64, 1024), (256, 512), (16, 1024)]
        for sequences, context in [(1, 32), (3, 32)] if box.dry else rows:
            name = f"decode of {sequences} x {context}"
            if not box.has_time(name, seconds=0 if box.dry else 6):
                continue
            row = decode_steps(box, self.loaded, sequences=sequences, context=context)
            box.row(what=name, **row, weight_bytes=2 * shape_of(dry=box.dry).read_parameters)

    def offline(self, box: Box) -> None:
        """All requests at once, to the end or to the end of the time."""
        requests = azure_requests(8 if box.dry else 512, vocab=self.loaded.vocab_size, dry=box.dry)
        sequences = 4 if box.dry else 256
        engine = self._engine(box, sequences=sequences, tokens=2**11 if box.dry else None)
        _serve(engine, requests[:2], seconds=box.left)  # whatever the first steps cost is not counted
        served = _serve(engine, requests, seconds=box.left - 1)
        box.row(what="offline", arm="quire", sequences=sequences, **served)

    def memory(self, box: Box) -> None:
        """The same requests in the same memory: paged and contiguous KV, and static batches."""
        requests = azure_requests(8 if box.dry else 256, vocab=self.loaded.vocab_size, dry=box.dry)
        declared = 128 if box.dry else 2048
        arms: dict[str, tuple[type[KVAllocator], Scheduler | None]] = {
            "paged": (PagedAllocator, None),
            "contiguous": (ContiguousAllocator, None),
            "static": (ContiguousAllocator, Static(config=Static.Config())),
        }
        share = box.left / len(arms)
        for arm, (allocator, scheduler) in arms.items():
            engine = self._engine(
                box,
                sequences=256,
                tokens=2**10 if box.dry else 2**17,
                allocator=allocator,
                scheduler=scheduler,
            )
            served = _serve(engine, requests, seconds=share - 2, declared=declared)
            box.row(what="memory", arm=arm, kv_tokens=2**10 if box.dry else 2**17, **served)

    def close(self) -> None:
        self.loaded.close()

    def _engine(
        self,
        box: Box,
        *,
        sequences: int,
        tokens: int | None,
        allocator: type[KVAllocator] = PagedAllocator,
        scheduler: Scheduler | None = None,
    ) -> Engine:
        """With KV memory for so many tokens; None takes 0.85 of the card, less the weights."""
        if tokens is None:
            weights = sum(file.stat().st_size for file in box.model.glob("*.safetensors"))
            total = torch.cuda.get_device_properties(0).total_memory
            tokens = (int(0.85 * total) - weights) // self.loaded.token_bytes
        return self.loaded.engine(
            max_sequences=sequences,
            max_step_tokens=_step_tokens(box),
            kv_bytes=tokens * self.loaded.token_bytes,
            allocator=allocator,
            scheduler=scheduler,
        )


def decode_steps(box: Box, loaded: Loaded, *, sequences: int, context: int) -> dict[str, float | None]:
    """What a step takes in which each of the sequences, of about so many tokens, gets one more."""
    steps = 16 if box.dry else 48
    output = 6 * steps + 128
    engine = loaded.engine(
        max_sequences=sequences,
        max_step_tokens=_step_tokens(box),
        kv_bytes=sequences * (context + output + 64) * loaded.token_bytes,
    )
    names = _add(engine, sequences, context, output)
    _until_all_decode(engine, sequences)
    _steps(engine, steps // 2)  # graphs are captured where they first run
    records = _steps(engine, steps)
    between = [b.end - a.end for a, b in pairwise(decode_records(records, sequences))]
    row = {
        "sequences": sequences,
        "context": context,
        "seconds": statistics.median(between),
        "least": min(between),
        "most": max(between),
        "kv_bytes": statistics.mean(record.decode_context for record in records) * loaded.token_bytes,
        **_profiled(engine, steps // 2, box.device),
    }
    clear(engine, names)
    return row


def _step_tokens(box: Box) -> int:
    return 64 if box.dry else 4096


def _add(engine: Engine, sequences: int, context: int, output: int) -> list[str]:
    rng = np.random.Generator(np.random.PCG64(sequences))
    names = [str(index) for index in range(sequences)]
    for name in names:
        prompt = random_prompt(rng, vocab=engine.info.vocab_size, tokens=context)
        engine.add(request(name, prompt, output))
    return names


def _until_all_decode(engine: Engine, sequences: int) -> None:
    while not decode_records(engine.take_records(), sequences):
        engine.step()


def _steps(engine: Engine, count: int) -> list[StepRecord]:
    """Records of so many more steps."""
    records: list[StepRecord] = []
    while len(records) < count:
        engine.step()
        records += engine.take_records()
    return records


def _profiled(engine: Engine, steps: int, device: str) -> dict[str, float | None]:
    """Of a step the seconds in which a kernel runs, by the profiler; it slows launches, not kernels."""
    from torch._C._profiler import _ExperimentalConfig
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    on_gpu = device == "cuda"
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    # The executor has a thread of its own.
    everywhere = _ExperimentalConfig(profile_all_threads=True)
    with profile(activities=[activity], experimental_config=everywhere) as profiler:
        _steps(engine, steps)
        if on_gpu:
            torch.cuda.synchronize()
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    spans = [
        Span(name=event.name, start=event.time_range.start / 1e6, end=event.time_range.end / 1e6)
        for event in profiler.events()
        if event.device_type == wanted
    ]
    busy = busy_per_step(spans, steps=steps)
    if busy is None:
        return {"busy_seconds": None, "kernels": None}
    return {"busy_seconds": busy.busy, "kernels": busy.kernels}


def _serve(
    engine: Engine,
    requests: AzureRequests,
    *,
    seconds: float,
    declared: int | None = None,
) -> dict[str, float | bool]:
    """Serve (prompt, output length) pairs, all there at once, for so long at most."""
    names = [str(index) for index in range(len(requests))]
    began = time.perf_counter()
    for name, (prompt, output) in zip(names, requests, strict=True):
        engine.add(request(name, prompt, output, declared=declared))
    tokens = sum(_tokens(engine, until=began + seconds))
    elapsed = time.perf_counter() - began
    whole = not engine.has_work
    records = engine.take_records()
    clear(engine, names)
    return {
        "seconds": elapsed,
        "whole": whole,
        "output_tokens": tokens,
        "prompt_tokens": sum(record.prefill_tokens for record in records),
        "steps": len(records),
        "preempted": sum(record.num_preempted for record in records),
        "decode_context": sum(record.decode_context for record in records),
        "prefill_pairs": sum(record.prefill_pairs for record in records),
    }


def _tokens(engine: Engine, *, until: float) -> Iterator[int]:
    while engine.has_work and time.perf_counter() < until:
        for piece in engine.step():
            assert piece.error is None, piece.error
            yield len(piece.token_ids)
