"""One request before those that count, so that nothing happens for the first time while a user waits or a run
is measured.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from quire.engine.engine import Engine
from quire.engine.request import Request, SamplingParams
from quire.errors import RequestRefused, UserError

if TYPE_CHECKING:
    from quire.embedding.embedder import Embedder


def warm_up(engine: Engine, *, tenant: str) -> None:
    """Serve a short request, of an engine that has served none yet, and forget it.

    Nothing of it stays in the prefix cache. It is called off before its end, so that predictors do not learn
    from it what outputs are like. Its step records are left to the caller.
    """
    request = Request(
        id="warm-up",
        prompt_token_ids=(0, 0),
        sampling=SamplingParams(temperature=0.0, max_tokens=3),
        tenant=tenant,
        forced_output_tokens=3,
    )
    try:
        engine.add(request)
    except RequestRefused:  # a tenant that the scheduler does not serve, as its own request will be told
        return
    tokens = 0
    while engine.has_work:
        tokens += sum(len(output.token_ids) for output in engine.step())
        if tokens >= 2:  # the prompt's step and one that decodes
            engine.abort(request.id)
    engine.allocator.reset_cache()


def warm_up_embedder(embedder: Embedder) -> None:
    """Compute a short text, or score one."""
    compute = embedder.score if embedder.scores else embedder.embed
    with suppress(UserError):  # a head that gives no scores, as its own texts will be told
        compute([(0, 0)])
