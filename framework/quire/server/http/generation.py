"""Asking the engine: one HTTP request may be several of the engine's, one a prompt."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from quire.engine.outputs import SequenceOutput
from quire.engine.request import Request
from quire.engine.sequence import FinishReason
from quire.server.client import EngineClient
from quire.server.http.errors import ApiError
from quire.server.http.trace import Trace

_AT_ONCE = 256
"""Prompts of one HTTP request that are with the engine at a time, so that many leave room in its queue."""


async def pieces(
    client: EngineClient, requests: Sequence[Request], *, whole: bool = False, trace: Trace | None = None
) -> AsyncGenerator[tuple[int, SequenceOutput], None]:
    """Pieces of output as they come, each with the index of its request.

    A `trace` is told of requests and of samples that end.

    Raises what `EngineClient.generate` raises, and ApiError where the engine failed at one of them; all
    others are then aborted, as they are when the iterator is closed.
    """
    if trace is not None:
        trace.asked(requests)
    if len(requests) == 1:
        async with contextlib.aclosing(client.generate(requests[0], whole=whole)) as outputs:
            async for output in outputs:
                if output.finish_reason is not None:
                    _note_end(output, trace)
                yield 0, output
        return
    room = asyncio.Semaphore(_AT_ONCE)
    news: asyncio.Queue[tuple[int, SequenceOutput] | Exception | None] = asyncio.Queue()

    async def ask(index: int, request: Request) -> None:
        try:
            async with room, contextlib.aclosing(client.generate(request, whole=whole)) as outputs:
                async for output in outputs:
                    if output.finish_reason is not None:
                        _note_end(output, trace)
                    news.put_nowait((index, output))
            news.put_nowait(None)
        except Exception as error:  # raised where the pieces are read
            news.put_nowait(error)

    tasks = [asyncio.create_task(ask(index, request)) for index, request in enumerate(requests)]
    try:
        living = len(tasks)
        while living:
            match await news.get():
                case None:
                    living -= 1
                case Exception() as error:
                    raise error
                case piece:
                    yield piece
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _note_end(output: SequenceOutput, trace: Trace | None) -> None:
    """A sample has ended. Raises ApiError unless it ended well."""
    if trace is not None and output.record is not None:
        trace.ended(output.record)
    if output.finish_reason is FinishReason.ERROR:
        raise ApiError(500, output.error or "failed", type="server_error", code="engine_error")
    if output.finish_reason is FinishReason.ABORT:
        raise ApiError(503, "the request was aborted by the server", type="server_error", code="aborted")
