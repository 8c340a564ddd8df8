"""Workloads in virtual time on the real engine: a step takes 10 ms, and 0.1 ms a token."""

from __future__ import annotations

import random
from dataclasses import dataclass

from quire.engine.config import EngineConfig
from quire.engine.records import RequestRecord
from quire.engine.request import Request, SamplingParams
from quire.interfaces import KVAllocator, KVLayout, Scheduler
from quire.jobs.feed import serve
from quire.testing import Rehearsal, make_layout
from quire_plugins.allocators.paged import PagedAllocator, PagedConfig
from quire_plugins.eviction.lru import Lru, LruConfig
from quire_plugins.predictors.oracle import Oracle, OracleConfig


def oracle() -> Oracle:
    return Oracle(config=OracleConfig(), seed=0)


def request(
    name: str, *, at: float = 0.0, prompt: int = 8, output: int = 8, declared: int | None = None, **attributes
) -> Request:
    """`prompt` tokens that no other request begins with, and an output of exactly `output` tokens."""
    head = sum(256**index * byte for index, byte in enumerate(name.encode()))
    tokens = [head // 16**index % 16 for index in range(prompt)]
    return Request(
        id=name,
        prompt_token_ids=attributes.pop("tokens", None) or tuple(tokens),
        sampling=SamplingParams(temperature=0.0, max_tokens=declared or output, ignore_eos=True),
        arrival_time=at,
        forced_output_tokens=output,
        **attributes,
    )


@dataclass
class Served:
    """What came of a workload."""

    records: dict[str, RequestRecord]
    errors: dict[str, str]
    preemptions: int
    plans: list[list[str]]
    """Who was in each step."""

    def starts(self) -> list[str]:
        """Names in the order of their first step."""
        return list(dict.fromkeys(name for plan in self.plans for name in plan))

    def mean_completion(self) -> float:
        return sum(r.finish - r.arrival for r in self.records.values()) / len(self.records)


def paged(layout: KVLayout) -> KVAllocator:
    return PagedAllocator(config=PagedConfig(), layout=layout, eviction=Lru(config=LruConfig()))


def served(
    scheduler: Scheduler,
    requests: list[Request],
    *,
    blocks: int = 1000,
    sequences: int = 4,
    budget: int = 512,
    overlap: bool = False,
    allocator=None,
    victims=None,
) -> Served:
    """Serve `requests`, in order of arrival, with `blocks` blocks of 4 tokens."""
    layout = make_layout(blocks, block_size=4, max_tokens=4000)
    rehearsal = Rehearsal(
        scheduler=scheduler,
        layout=layout,
        allocator=None if allocator is None else allocator(layout),
        victims=victims,
        config=EngineConfig(max_sequences=sequences, max_step_tokens=budget, overlap=overlap),
    )
    records, errors = {}, {}
    for outputs in serve(rehearsal.engine, requests):
        for output in outputs:
            if output.error is not None:
                errors[output.request_id] = output.error
            elif output.record is not None:
                records[output.request_id] = output.record
    rehearsal.allocator.check_integrity()
    return Served(
        records=records,
        errors=errors,
        preemptions=sum(record.num_preemptions for record in records.values()),
        plans=[[row.sequence_id for row in plan.rows] for plan in rehearsal.executor.plans],
    )


def random_requests(seed: int, number: int, *, rate: float, longest: int = 120) -> list[Request]:
    """Poisson arrivals, mostly short outputs and a few long ones."""
    draw = random.Random(seed)
    now, requests = 0.0, []
    for index in range(number):
        now += draw.expovariate(rate)
        output = max(1, min(longest, int(draw.lognormvariate(2.5, 1.2))))
        requests.append(request(f"r{index}", at=now, prompt=draw.randint(4, 30), output=output))
    return requests
