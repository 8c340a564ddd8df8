"""What the engine says when it is asked directly, one request at a time: the oracle of the HTTP side."""

from __future__ import annotations

import asyncio
import itertools

from quire.engine.request import Request, SamplingParams
from quire.jobs.completions import Sample

_ids = itertools.count()


def asked(server, prompt, **sampling) -> list[Sample]:
    """The samples of a prompt (text or token ids)."""
    ids = server.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
    request = Request(
        id=f"offline-{next(_ids)}", prompt_token_ids=tuple(ids), sampling=SamplingParams(**sampling)
    )

    async def gather() -> list[Sample]:
        samples = [Sample() for _ in range(request.sampling.n)]
        async for output in server.client.generate(request):
            samples[output.index].append(output)
        return samples

    return asyncio.run_coroutine_threadsafe(gather(), server.loop).result()


def chat_ids(server, messages) -> list[int]:
    text = server.tokenizer.apply_chat_template(messages)
    return server.tokenizer.encode(text, add_special_tokens=False)
