"""Preemption by swap, and evicted prefixes in host memory: the real engine, every plan checked by the
scripted executor against a model of both memories."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quire.config.compose import compose
from quire.engine.config import Preemption
from quire.engine.request import Request, SamplingParams
from quire.errors import MissingCapability, UserError
from quire.metrics.summary import Summary
from quire.registry import load_registry
from quire.run import Run
from quire.testing import Arrival, Rehearsal, arrivals, engine_configs, kv_layouts, make_layout
from quire_plugins.allocators.paged import PagedAllocator, PagedConfig
from quire_plugins.allocators.radix import RadixAllocator, RadixConfig
from quire_plugins.eviction.arc import Arc, ArcConfig
from quire_plugins.eviction.lru import Lru, LruConfig
from quire_plugins.eviction.queue_aware import QueueAware, QueueAwareConfig
from quire_plugins.schedulers.fcfs import Fcfs, FcfsConfig
from quire_plugins.schedulers.mlfq import Mlfq, MlfqConfig
from quire_plugins.schedulers.sarathi import Sarathi, SarathiConfig

REGISTRY = load_registry()
SCHEDULERS = {
    "fcfs": lambda: Fcfs(config=FcfsConfig()),
    "sarathi": lambda: Sarathi(config=SarathiConfig(chunk_tokens=7)),
    "mlfq": lambda: Mlfq(config=MlfqConfig(quantum=0.02)),
}


def paged(layout, *, prefix_cache=True, eviction=None):
    return PagedAllocator(
        config=PagedConfig(prefix_cache=prefix_cache),
        layout=layout,
        eviction=eviction or Lru(config=LruConfig()),
    )


def fuzz(allocator, *, host: bool):
    """Random workloads under every scheduler above."""

    @given(
        layout=kv_layouts(min_tokens=30, max_tokens=90, host=host),
        config=engine_configs(),
        workload=arrivals(vocab_size=8),
        scheduler=st.sampled_from(sorted(SCHEDULERS)),
    )
    @settings(
        max_examples=150,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    def every_request_comes_to_its_end(layout, config, workload, scheduler):
        mode = Preemption.swap if layout.host_blocks else Preemption.recompute
        layout = replace(layout, max_step_tokens=config.max_step_tokens)
        rehearsal = Rehearsal(
            scheduler=SCHEDULERS[scheduler](),
            layout=layout,
            allocator=allocator(layout),
            config=replace(config, preemption=mode),
            vocab_size=8,
            eos_token_ids=(7,),
        )
        rehearsal.run(workload)
        rehearsal.check_outputs()
        stats = rehearsal.allocator.stats()
        assert stats.host_used == 0, f"host memory is still kept for somebody: {stats}"

    every_request_comes_to_its_end()


def test_paged_with_swap():
    fuzz(paged, host=True)


def test_paged_with_swap_and_no_prefix_cache():
    fuzz(lambda layout: paged(layout, prefix_cache=False), host=True)


@pytest.mark.parametrize(
    "eviction", [lambda: QueueAware(config=QueueAwareConfig()), lambda: Arc(config=ArcConfig())]
)
def test_paged_with_other_evictions(eviction):
    fuzz(lambda layout: paged(layout, eviction=eviction()), host=True)


def radix(layout):
    return RadixAllocator(config=RadixConfig(), layout=layout, eviction=Lru(config=LruConfig()))


@pytest.mark.parametrize("host", [False, True])
def test_radix(host):
    fuzz(radix, host=host)


def crowded(mode: Preemption, *, host: int, blocks: int = 12):
    """Six requests in memory for about two and a half, and what they came to."""
    layout = make_layout(blocks, block_size=4, host_blocks=(host,) if host else ())
    rehearsal = Rehearsal(
        scheduler=Fcfs(config=FcfsConfig()),
        layout=layout,
        allocator=paged(layout, prefix_cache=False),
        config=replace(compose([], REGISTRY).engine, preemption=mode),
        vocab_size=16,
    )
    rehearsal.run(
        [
            Arrival(
                request=Request(
                    id=f"r{i}",
                    prompt_token_ids=tuple((i, j % 16)[j > 0] for j in range(9)),
                    sampling=SamplingParams(max_tokens=12),
                )
            )
            for i in range(6)
        ]
    )
    rehearsal.check_outputs()
    summary = Summary()
    for record in rehearsal.engine.take_records():
        summary.add_step(record)
    computed = sum(plan.num_tokens for plan in rehearsal.executor.plans)
    return summary.metrics(), computed


def test_a_swapped_sequence_computes_nothing_again_but_what_was_under_way():
    recomputed, tokens = crowded(Preemption.recompute, host=0)
    swapped, fewer = crowded(Preemption.swap, host=24)
    assert recomputed["swaps"] == recomputed["bytes_to_host"] == 0
    assert swapped["swaps"] > 0
    assert swapped["swap_fallbacks"] == 0
    assert 0 < swapped["bytes_from_host"] <= swapped["bytes_to_host"], "a token under way may end a sequence"
    assert fewer <= 6 * 20 + swapped["swaps"] + 6 < tokens


def test_where_host_memory_is_full_sequences_are_recomputed_and_counted():
    metrics, _ = crowded(Preemption.swap, host=4)
    assert metrics["swap_fallbacks"] > 0
    assert metrics["swaps"] > 0


def run(tmp_path, *overrides):
    options = ["attention=sdpa", "ops=torch", "device=cpu", "engine.block_size=16", *overrides]
    return Run(config=compose(options, REGISTRY), registry=REGISTRY, directory=tmp_path)


def test_swap_without_host_memory_is_refused_at_the_start(tmp_path):
    with pytest.raises(MissingCapability, match=r"engine.preemption=swap: needs host memory"):
        run(tmp_path, "engine.preemption=swap", "engine.kv_bytes=1MiB").engine(with_text=False)


@pytest.mark.parametrize(
    ("host_bytes", "message"),
    [
        ("1000000GiB", r"allocator.host_bytes: \d+ bytes of host memory beside \d+ bytes .* cannot be had"),
        ("10", r"allocator.host_bytes=10: too little for a block of each KV group; at least \d+ bytes"),
    ],
)
@pytest.mark.parametrize("allocator", ["paged", "radix"])
def test_host_memory_that_cannot_be_had(tmp_path, allocator, host_bytes, message):
    options = (f"allocator={allocator}", f"allocator.host_bytes={host_bytes}", "engine.kv_bytes=1MiB")
    with pytest.raises(UserError, match=message):
        run(tmp_path, *options).engine(with_text=False)


@pytest.mark.parametrize("allocator", ["paged", "radix"])
def test_host_bytes_are_bytes(allocator):
    with pytest.raises(UserError, match=r"allocator.host_bytes='lots': must be bytes"):
        compose([f"allocator={allocator}", "allocator.host_bytes=lots"], REGISTRY)
