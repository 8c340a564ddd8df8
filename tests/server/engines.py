"""Engines of the bundled model for these tests, and what they make offline of what is served."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from quire.config.compose import compose
from quire.config.run_config import RunConfig
from quire.engine.engine import Engine
from quire.engine.outputs import SequenceOutput
from quire.engine.request import Request, SamplingParams
from quire.jobs.completions import Completion, Completions
from quire.jobs.feed import serve
from quire.registry import load_registry
from quire.run import Run
from quire.server.card import card_of
from quire.server.client import ModelCard

OVERRIDES = ("dtype=float32", "device=cpu", "engine.threads=1", "engine.kv_bytes=32MiB")
ENDLESS = SamplingParams(temperature=0.0, max_tokens=900, ignore_eos=True)
"""Several seconds of work, so that whoever calls it off comes first."""


def demo_config(*overrides: str) -> RunConfig:
    return compose([*OVERRIDES, *overrides])


@dataclass(frozen=True)
class Loaded:
    run: Run
    engine: Engine
    card: ModelCard


@contextmanager
def demo_engine(*overrides: str) -> Iterator[Loaded]:
    run = Run(config=demo_config(*overrides), registry=load_registry(), directory=Path())
    engine = run.engine()
    try:
        yield Loaded(run=run, engine=engine, card=card_of(run, engine))
    finally:
        engine.close()


def offline(engine: Engine, requests: Iterable[Request]) -> dict[str, Completion]:
    """What the requests come to without any server."""
    completions = Completions()
    return {
        whole.request.id: whole
        for outputs in serve(engine, completions.watch(requests))
        for whole in completions.take(outputs)
    }


async def completed(request: Request, pieces: AsyncIterator[SequenceOutput]) -> Completion:
    """A stream's pieces put together."""
    completions = Completions()
    list(completions.watch([request]))
    whole = [one async for piece in pieces for one in completions.take([piece])]
    assert len(whole) == 1, "one request, which ends once"
    return whole[0]


def mixed_requests(vocab_size: int) -> list[Request]:
    """Every feature that crosses to the engine and back, short prompts and long ones."""
    samplings = [
        SamplingParams(temperature=0.0, max_tokens=40),
        SamplingParams(temperature=0.8, top_p=0.9, seed=7, max_tokens=30, n=3),
        SamplingParams(temperature=0.0, max_tokens=60, stop=(" and", "zzz")),
        SamplingParams(temperature=0.0, max_tokens=12, logprobs=3, prompt_logprobs=2),
        SamplingParams(temperature=1.0, seed=3, min_p=0.05, top_k=40, max_tokens=25, logprobs=0),
        SamplingParams(temperature=0.0, max_tokens=20, logit_bias={11: 5.0, 13: -100.0}, min_tokens=5),
        SamplingParams(temperature=0.0, max_tokens=20, repetition_penalty=1.3, presence_penalty=0.5),
        SamplingParams(temperature=1.0, max_tokens=20, allowed_token_ids=tuple(range(20, 60))),
    ]
    return [
        Request(
            id=f"mixed-{index}",
            prompt_token_ids=tuple((17 * index + 31 * j) % vocab_size for j in range(3 + 20 * index)),
            sampling=sampling,
            tenant=f"tenant {index % 2}",
            priority=index % 3,
            deadline=5.0 if index % 2 else None,
        )
        for index, sampling in enumerate(samplings * 2)
    ]


def assert_same(served: Completion, expected: Completion) -> None:
    """Equal but for times, and for the last bits of log probabilities, which differ with the batch."""
    assert len(served.samples) == len(expected.samples)
    for ours, theirs in zip(served.samples, expected.samples, strict=True):
        assert ours.text == theirs.text
        assert ours.token_ids == theirs.token_ids
        assert ours.finish_reason is theirs.finish_reason
        assert ours.error == theirs.error
        assert_same_logprobs(ours.logprobs, theirs.logprobs)
        assert_same_logprobs(ours.prompt_logprobs, theirs.prompt_logprobs)
        assert ours.record is not None
        assert theirs.record is not None
        assert ours.record.num_output_tokens == theirs.record.num_output_tokens
        assert ours.record.tenant == theirs.record.tenant


def assert_same_logprobs(ours, theirs) -> None:
    assert [each.token_id for each in ours] == [each.token_id for each in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert abs(one.logprob - other.logprob) < 1e-3
        assert len(one.top) == len(other.top)
