"""Sequences without an engine, for tests of what the engine calls."""

from __future__ import annotations

from collections.abc import Iterable

from quire.engine.records import RequestRecord
from quire.engine.request import Request, SamplingParams
from quire.engine.sequence import Sequence


def make_sequence(
    prompt: Iterable[int], *, order: int = 0, max_tokens: int = 16, shares_prefixes: bool = True
) -> Sequence:
    """A waiting sequence as the engine makes it, named after its `order`, which must be unique in a test.

    `sequence.view` is what policies and allocators receive; the test plays the engine and writes the rest.
    """
    sampling = SamplingParams(max_tokens=max_tokens, prompt_logprobs=None if shares_prefixes else 0)
    request = Request(id=f"r{order}", prompt_token_ids=tuple(prompt), sampling=sampling)
    return Sequence(
        id=request.id,
        request=request,
        order=order,
        arrival_time=0.0,
        index=0,
        max_tokens=max_tokens,
        output_limit=max_tokens,
        tokens=list(request.prompt_token_ids),
        record=RequestRecord(
            request_id=request.id,
            sample=0,
            tenant=request.tenant,
            arrival=0.0,
            num_prompt_tokens=len(request.prompt_token_ids),
        ),
    )
