"""A device that runs out of memory in a step costs time, or one request, and never the engine."""

import logging

import pytest
import torch
from checkpoints import make_checkpoint

from quire.config.compose import compose
from quire.engine.request import Request, SamplingParams
from quire.engine.sequence import FinishReason
from quire.jobs.feed import serve
from quire.models.decoder import Decoder
from quire.registry import load_registry
from quire.run import Run

REQUESTS = [
    Request(
        id=f"r{i}",
        prompt_token_ids=tuple(range(3 + i, 43 + i)),
        sampling=SamplingParams(temperature=0.0 if i % 2 else 1.0, max_tokens=6 + 3 * i, seed=i),
    )
    for i in range(4)
]


@pytest.fixture(scope="module")
def registry():
    return load_registry()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("qwen2")
    torch.set_num_threads(1)
    make_checkpoint("qwen2", path)
    return path


@pytest.fixture
def make_engine(registry, checkpoint):
    engines = []

    def make(*overrides):
        fixed = [f"model={checkpoint}", "dtype=float32", "device=cpu", "engine.threads=1", "seed=1"]
        config = compose([*fixed, *overrides], registry)
        engines.append(Run(config=config, registry=registry, directory=checkpoint).engine(with_text=False))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


class SmallDevice:
    """Computes steps of up to `room` tokens; `steps` are the numbers of tokens that were tried."""

    def __init__(self, monkeypatch, error=None):
        self.room = 10**9
        self.steps = []
        compute = Decoder.forward

        def forward(model, batch, caches, metadata):
            self.steps.append(batch.num_tokens)
            if batch.num_tokens > self.room:
                raise error or torch.OutOfMemoryError("CUDA out of memory. Tried to get 2 GiB.\nGPU 0 has")
            return compute(model, batch, caches, metadata)

        monkeypatch.setattr(Decoder, "forward", forward)


def run(engine):
    """Tokens and last output of every request."""
    tokens, last = {}, {}
    for outputs in serve(engine, REQUESTS):
        engine.allocator.check_integrity()
        for output in outputs:
            tokens.setdefault(output.request_id, []).extend(output.token_ids)
            last[output.request_id] = output
    assert engine.allocator.stats().used == 0
    return tokens, last


@pytest.mark.parametrize("overlap", ["true", "false"])
@pytest.mark.parametrize("scheduler", ["fcfs", "sarathi", "prefill_first"])
@pytest.mark.parametrize(
    "error",
    [
        None,
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "numpy"],
)
def test_a_step_that_is_too_large_is_tried_in_smaller_ones(
    make_engine, monkeypatch, caplog, overlap, scheduler, error
):
    expected, _ = run(make_engine())
    device = SmallDevice(monkeypatch, error)
    device.room = 3
    engine = make_engine(f"engine.overlap={overlap}", f"scheduler={scheduler}")
    with caplog.at_level(logging.WARNING):
        tokens, last = run(engine)
    assert tokens == expected
    assert {output.finish_reason for output in last.values()} == {FinishReason.LENGTH}
    assert any(step > device.room for step in device.steps)
    assert "wait again, and steps now take up to" in caplog.text
    assert sum(record.num_preempted for record in engine.take_records()) > 0


def test_a_single_token_that_is_too_much_is_refused_by_name(make_engine, monkeypatch):
    device = SmallDevice(monkeypatch)
    engine = make_engine()
    device.room = 0
    _, last = run(engine)
    for output in last.values():
        assert output.finish_reason is FinishReason.ERROR
        assert output.error.endswith(
            "of one token: out of memory on cpu: CUDA out of memory. Tried to get 2 GiB."
        )
    device.room = 10**9
    _, last = run(engine)
    assert {output.finish_reason for output in last.values()} == {FinishReason.LENGTH}


def test_steps_stay_small(make_engine, monkeypatch):
    device = SmallDevice(monkeypatch)
    engine = make_engine("engine.max_step_tokens=40", "engine.overlap=false")
    device.room = 39
    engine.add(REQUESTS[0])
    while engine.has_work:
        engine.step()
    engine.add(REQUESTS[3])
    while engine.has_work:
        engine.step()
    assert device.steps[0] == 40
    assert max(device.steps[1:]) == 20
