"""One request before a measured run, so that nothing measured happens for the first time."""

from __future__ import annotations

from quire.engine.engine import Engine
from quire.engine.request import Request, SamplingParams
from quire.errors import RequestRefused


def warm_up(engine: Engine, *, tenant: str) -> None:
    """Serve a request too short to fill a block, so that it leaves nothing in the prefix cache."""
    request = Request(
        id="warm-up",
        prompt_token_ids=(0, 0),
        sampling=SamplingParams(temperature=0.0, max_tokens=2),
        tenant=tenant,
        forced_output_tokens=2,
    )
    try:
        engine.add(request)
    except RequestRefused:  # a tenant that the scheduler does not serve, as its own request will be told
        return
    while engine.has_work:
        engine.step()
