"""What is generated is the same under every allocator, budget, overlap and shortage of memory."""

import pytest

from quire.engine.config import EngineConfig
from quire.engine.request import Request, SamplingParams
from quire.interfaces import KVAllocator, KVLayout
from quire.testing import Arrival, NaiveAllocator, Rehearsal, make_layout
from quire_plugins.allocators.paged import PagedAllocator, PagedConfig
from quire_plugins.eviction.lru import Lru, LruConfig
from quire_plugins.schedulers.fcfs import Fcfs, FcfsConfig

PROMPTS = [tuple((7 * i + j * j) % 11 for j in range(4 + 9 * (i % 5))) for i in range(12)]


def paged(layout: KVLayout) -> KVAllocator:
    return PagedAllocator(config=PagedConfig(), layout=layout, eviction=Lru(config=LruConfig()))


def naive(layout: KVLayout) -> KVAllocator:
    return NaiveAllocator(layout=layout)


def rehearse(make_allocator, *, blocks: int, config: EngineConfig) -> Rehearsal:
    """Twelve requests of two samples, half of them greedy, some of which begin alike."""
    layout = make_layout(
        blocks, blocks, block_size=4, windows=(None, 10), max_step_tokens=config.max_step_tokens
    )
    rehearsal = Rehearsal(
        scheduler=Fcfs(config=FcfsConfig()),
        layout=layout,
        allocator=make_allocator(layout),
        config=config,
        vocab_size=32,
        eos_token_ids=(31,),
        seed=3,
    )
    rehearsal.run(
        [
            Arrival(
                request=Request(
                    id=f"r{i}",
                    prompt_token_ids=PROMPTS[i % 7][: 3 + i] + PROMPTS[i],
                    sampling=SamplingParams(temperature=float(i % 2), n=2, max_tokens=20),
                ),
                step=2 * i,
            )
            for i in range(12)
        ]
    )
    rehearsal.check_outputs()
    return rehearsal


@pytest.mark.parametrize("make_allocator", [paged, naive])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(("max_sequences", "max_step_tokens"), [(1, 1), (3, 7), (16, 512)])
def test_outputs_are_the_same(
    make_allocator, overlap: bool, max_sequences: int, max_step_tokens: int
) -> None:
    plenty = rehearse(naive, blocks=1000, config=EngineConfig(max_sequences=1, overlap=False))
    config = EngineConfig(max_sequences=max_sequences, max_step_tokens=max_step_tokens, overlap=overlap)
    scarce = rehearse(make_allocator, blocks=20, config=config)
    assert scarce.samples == plenty.samples
    assert len({tuple(sample.tokens) for sample in plenty.samples.values()}) > 12


def test_samples_share_their_prompt_and_later_requests_their_prefix() -> None:
    config = EngineConfig(max_sequences=8, max_step_tokens=64)
    rehearsal = rehearse(paged, blocks=1000, config=config)
    computed = sum(plan.num_tokens for plan in rehearsal.executor.plans)
    alone = sum(plan.num_tokens for plan in rehearse(naive, blocks=1000, config=config).executor.plans)
    prompts = sum(len(arrival.request.prompt_token_ids) for arrival in rehearsal.arrivals.values())
    assert alone - computed > 0.8 * prompts, "the second sample of each request should compute little"


def test_little_memory_forces_preemption() -> None:
    config = EngineConfig(max_sequences=8, max_step_tokens=64)
    for make_allocator in (paged, naive):
        rehearsal = rehearse(make_allocator, blocks=20, config=config)
        assert sum(record.num_preempted for record in rehearsal.engine.take_records()) > 0
