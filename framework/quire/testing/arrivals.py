"""Hypothesis strategies of what may happen to an engine: requests, arrivals, aborts, budgets."""

from __future__ import annotations

from hypothesis import strategies as st

from quire.engine.config import EngineConfig
from quire.engine.request import Request, SamplingParams
from quire.testing.rehearsal import Arrival


@st.composite
def arrivals(draw: st.DrawFn, *, vocab_size: int, max_requests: int = 10) -> list[Arrival]:
    """Requests that often begin alike, over some 20 steps; some of several samples, some aborted."""
    stem = draw(st.lists(st.integers(0, vocab_size - 1), min_size=40, max_size=40))
    number = draw(st.integers(1, max_requests))
    return [_arrival(draw, f"r{index}", stem, vocab_size) for index in range(number)]


def _arrival(draw: st.DrawFn, name: str, stem: list[int], vocab_size: int) -> Arrival:
    common = draw(st.integers(0, 30))
    own = draw(st.lists(st.integers(0, vocab_size - 1), min_size=1, max_size=10))
    max_tokens = draw(st.integers(1, 14))
    sampling = SamplingParams(
        temperature=draw(st.sampled_from([0.0, 1.0])),
        max_tokens=max_tokens,
        min_tokens=draw(st.integers(0, min(2, max_tokens))),
        n=draw(st.sampled_from([1, 1, 1, 2, 3])),
        seed=draw(st.none() | st.integers(0, 3)),
        ignore_eos=draw(st.booleans()),
        stop_token_ids=draw(st.sampled_from([(), (), (2, 3)])),
        prompt_logprobs=draw(st.sampled_from([None, None, None, 0])),
    )
    step = draw(st.integers(0, 20))
    return Arrival(
        request=Request(
            id=name,
            prompt_token_ids=tuple(stem[:common] + own),
            sampling=sampling,
            tenant=draw(st.sampled_from(["one", "two"])),
            priority=draw(st.integers(-1, 1)),
            deadline=draw(st.none() | st.floats(0, 1)),
            session=draw(st.sampled_from([None, "chat"])),
            forced_output_tokens=draw(st.none() | st.integers(1, max_tokens)),
        ),
        step=step,
        abort=draw(st.none() | st.none() | st.integers(step, step + 20)),
    )


def engine_configs() -> st.SearchStrategy[EngineConfig]:
    """Budgets from a single token and sequence a step to more than there is, with overlap and without."""
    return st.builds(
        EngineConfig,
        max_sequences=st.integers(1, 8),
        max_step_tokens=st.integers(1, 12) | st.just(64),
        overlap=st.booleans(),
    )
