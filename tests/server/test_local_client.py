"""Limits, on an engine in a thread; and Python's own streams, which share it with direct calls."""

import asyncio
import threading
from contextlib import aclosing
from dataclasses import replace

import pytest
from engines import ENDLESS, OVERRIDES, completed, demo_engine

from quire import LLM
from quire.engine.request import Request, SamplingParams
from quire.errors import RequestRefused, UserError
from quire.server.client import EngineDead, QueueFull, RequestTimeout
from quire.server.limits import EngineLimits
from quire.server.local import LocalEngineClient

SHORT = SamplingParams(temperature=0.0, max_tokens=30, ignore_eos=True)


@pytest.fixture(scope="module")
def loaded():
    with demo_engine("engine.max_sequences=1") as loaded:
        yield loaded


def endless(name):
    return Request(id=name, prompt_token_ids=(5, 6, 7), sampling=ENDLESS)


def with_client(loaded, ask, **limits):
    async def run():
        client = LocalEngineClient(engine=loaded.engine, card=loaded.card, limits=EngineLimits(**limits))
        await client.start()
        try:
            return await ask(client)
        finally:
            await client.close()
            assert not loaded.engine.has_work
            loaded.engine.allocator.check_integrity()

    return asyncio.run(run())


def test_a_full_queue_says_when_to_come_again(loaded):
    async def ask(client):
        async with aclosing(client.generate(endless("runs"))) as runs:
            await anext(runs)
            waiting = [asyncio.create_task(anext(client.generate(endless(f"w{i}")))) for i in range(2)]
            await client.stats()
            with pytest.raises(QueueFull, match="max_waiting=2") as refusal:
                await anext(client.generate(endless("too many")))
            assert 1 <= refusal.value.retry_after <= 60
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            await client.stats()
            await client.stats()
            last = asyncio.create_task(anext(client.generate(endless("now"))))
            await client.stats()
            assert (await client.stats()).waiting == 1
            last.cancel()

    with_client(loaded, ask, max_waiting=2)


def test_samples_that_wait_count_one_by_one(loaded):
    async def ask(client):
        several = Request(id="several", prompt_token_ids=(5, 6, 7), sampling=replace(ENDLESS, n=4))
        async with aclosing(client.generate(several)) as pieces:
            await anext(pieces)  # its prompt is computed, and one of four runs
            while (await client.stats()).waiting < 3:
                pass
            with pytest.raises(QueueFull, match=r"3 wait \(server\.limits\.max_waiting=3\)"):
                await anext(client.generate(endless("another")))

    with_client(loaded, ask, max_waiting=3)


def test_a_request_that_takes_too_long_is_aborted(loaded):
    async def ask(client):
        with pytest.raises(RequestTimeout, match=r"0\.05 s"):
            await completed(endless("slow"), client.generate(endless("slow")))
        assert (await client.stats()).running == 0

    with_client(loaded, ask, request_seconds=0.05)


def test_an_engine_that_breaks_is_dead(loaded):
    async def ask(client):
        client._engine.step = lambda **_: 1 / 0
        try:
            with pytest.raises(EngineDead, match="ZeroDivisionError"):
                await anext(client.generate(endless("broken")))
            with pytest.raises(EngineDead, match="ZeroDivisionError"):
                await client.stats()
        finally:
            del client._engine.step

    with_client(loaded, ask)


def test_memory_that_is_not_whole_when_idle_ends_the_engine(loaded, monkeypatch):
    async def ask(client):
        await completed(endless("fine"), client.generate(replace(endless("fine"), sampling=SHORT)))
        await client.stats()
        monkeypatch.setattr(loaded.engine.allocator, "check_integrity", _lost_block)
        await completed(endless("last"), client.generate(replace(endless("last"), sampling=SHORT)))
        with pytest.raises(EngineDead, match="a lost block"):
            await client.stats()
        monkeypatch.undo()

    with_client(loaded, ask, check_memory=True)


def _lost_block() -> None:
    raise AssertionError("a lost block")


@pytest.mark.parametrize(
    "name",
    ["max_waiting", "request_seconds", "max_restarts", "restart_seconds", "stream_pieces_per_second"],
)
def test_limits_are_checked(name):
    with pytest.raises(UserError, match=rf"server\.limits\.{name}=-1"):
        EngineLimits(**{name: -1})


@pytest.fixture(scope="module")
def llm():
    with LLM("demo", OVERRIDES) as llm:
        yield llm


async def text_of(pieces):
    return "".join([piece.text async for piece in pieces])


def test_streams_from_python_equal_generate(llm):
    prompts = ["Once upon a time", "The", "Tom and Mia"]
    expected = [completion.samples[0].text for completion in llm.generate(prompts, SHORT)]

    async def ask():
        return await asyncio.gather(*(text_of(llm.stream(prompt, SHORT)) for prompt in prompts))

    for _ in range(2):  # each run has a loop of its own
        assert asyncio.run(ask()) == expected
    assert [completion.samples[0].text for completion in llm.generate(prompts, SHORT)] == expected


def test_generate_may_be_called_while_streams_are_read(llm):
    expected = llm.generate(["The"], SHORT)[0].samples[0].text

    async def ask():
        async with aclosing(llm.stream("Once", ENDLESS)) as pieces:
            await anext(pieces)
            here = llm.generate(["The"], SHORT)
            elsewhere = await asyncio.to_thread(llm.generate, ["The"], SHORT)
            await anext(pieces)
        return here, elsewhere, await text_of(llm.stream("The", SHORT))

    here, elsewhere, streamed = asyncio.run(ask())
    assert here[0].samples[0].text == elsewhere[0].samples[0].text == streamed == expected


def test_a_stream_that_can_never_be_served_says_so(llm):
    with pytest.raises(RequestRefused, match="5000"):
        asyncio.run(text_of(llm.stream([1] * 5000, SHORT)))


def test_streams_of_two_loops_at_once_are_refused(llm):
    async def ask():
        async with aclosing(llm.stream("Once", ENDLESS)) as pieces:
            await anext(pieces)
            caught = []

            def other():
                try:
                    asyncio.run(text_of(llm.stream("The", SHORT)))
                except UserError as error:
                    caught.append(str(error))

            thread = threading.Thread(target=other)
            thread.start()
            await asyncio.to_thread(thread.join)
        return caught

    assert len(asyncio.run(ask())) == 1
