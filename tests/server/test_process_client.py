"""An engine in a process of its own gives what it gives offline, to any number of readers, fast or slow."""

import asyncio
from contextlib import aclosing

import pytest
from engines import ENDLESS, assert_same, completed, demo_config, demo_engine, mixed_requests, offline

from quire.engine.request import Request, SamplingParams
from quire.errors import RequestRefused
from quire.server.client import EngineStatus, ModelKind
from quire.server.process import ProcessEngineClient

SHORT = SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True)


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def client(runner, tmp_path_factory):
    client = ProcessEngineClient(config=demo_config(), directory=tmp_path_factory.mktemp("run"))
    runner.run(client.start())
    yield client
    runner.run(client.close())


def test_the_card_is_the_models(client):
    assert client.status is EngineStatus.READY
    assert client.card.kind is ModelKind.GENERATE
    assert (client.card.name, client.card.vocab_size, client.card.eos_token_ids) == ("demo", 2048, (0,))
    assert client.card.max_model_tokens == 1024


def test_streams_equal_what_the_engine_gives_offline(runner, client):
    requests = mixed_requests(client.card.vocab_size)
    with demo_engine() as loaded:
        expected = offline(loaded.engine, requests)

    async def serve():
        return await asyncio.gather(
            *(
                completed(request, client.generate(request, whole=index % 3 == 0))
                for index, request in enumerate(requests)
            )
        )

    for served in runner.run(serve()):
        assert_same(served, expected[served.request.id])


def test_whole_samples_come_in_one_piece_each(runner, client):
    request = Request(
        id="whole",
        prompt_token_ids=(5, 6),
        sampling=SamplingParams(n=3, seed=1, max_tokens=9, logprobs=1, ignore_eos=True),
    )

    async def serve():
        return [piece async for piece in client.generate(request, whole=True)]

    pieces = runner.run(serve())
    assert sorted(piece.index for piece in pieces) == [0, 1, 2]
    for piece in pieces:
        assert piece.finish_reason is not None
        assert len(piece.token_ids) == len(piece.logprobs) == piece.record.num_output_tokens == 9


def test_a_reader_that_leaves_frees_its_request_at_once(runner, client):
    async def leave():
        request = Request(id="left", prompt_token_ids=(5, 6, 7), sampling=ENDLESS)
        async with aclosing(client.generate(request)) as pieces:
            await anext(pieces)
        stats = await client.stats()
        return stats, [piece async for piece in client.generate(again)]

    again = Request(id="right", prompt_token_ids=(5, 6, 7), sampling=SHORT)
    stats, pieces = runner.run(leave())
    assert (stats.running, stats.waiting, stats.kv_used) == (0, 0, 0)
    assert sum(len(piece.token_ids) for piece in pieces) == 8


def test_a_cancelled_task_frees_its_request_and_its_name(runner, client):
    async def cancel():
        request = Request(id="cancelled", prompt_token_ids=(5, 6, 7), sampling=ENDLESS)
        started = asyncio.Event()

        async def read():
            async for _ in client.generate(request):
                started.set()

        task = asyncio.create_task(read())
        await started.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert (await client.stats()).running == 0
        await client.stats()  # by now the engine's last word on it is here
        again = Request(id="cancelled", prompt_token_ids=(5,), sampling=SHORT)
        return await completed(again, client.generate(again))

    assert len(runner.run(cancel()).samples[0].token_ids) == 8


def test_a_slow_reader_holds_up_nobody_and_loses_nothing(runner, client):
    slow = Request(
        id="slow",
        prompt_token_ids=(5, 6, 7),
        sampling=SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True),
    )

    async def serve():
        async with aclosing(client.generate(slow)) as pieces:
            first = await anext(pieces)
            quick = await asyncio.gather(
                *(
                    completed(request, client.generate(request))
                    for index in range(6)
                    for request in [
                        Request(id=f"quick-{index}", prompt_token_ids=(9, index + 1), sampling=SHORT)
                    ]
                )
            )
            while (await client.stats()).running:  # the slow one ends, too, although nobody reads
                pass
            rest = [piece async for piece in pieces]
        return quick, [first, *rest]

    quick, pieces = runner.run(serve())
    assert all(len(each.samples[0].token_ids) == 8 for each in quick)
    assert sum(len(piece.token_ids) for piece in pieces) == 60
    assert pieces[-1].finish_reason is not None


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (Request(id="long", prompt_token_ids=(1,) * 2000), "2000"),
        (Request(id="unknown", prompt_token_ids=(1, 5000)), "5000"),
        (Request(id="object", prompt_token_ids=(1,), sampling=SamplingParams(extra={"x": object()})), "sent"),
        (Request(id="huge", prompt_token_ids=(1,), sampling=SamplingParams(seed=2**70)), "sent"),
        (Request(id="surrogate", prompt_token_ids=(1,), tenant="\ud800"), "sent"),
    ],
)
def test_what_cannot_be_served_is_refused_and_nothing_else_is(runner, client, request_, reason):
    async def ask():
        with pytest.raises(RequestRefused, match=reason):
            await anext(client.generate(request_))
        fine = Request(id=request_.id, prompt_token_ids=(5, 6), sampling=SHORT)
        return await completed(fine, client.generate(fine))

    assert len(runner.run(ask()).samples[0].token_ids) == 8


def test_a_living_requests_id_is_taken(runner, client):
    request = Request(id="twin", prompt_token_ids=(5, 6), sampling=ENDLESS)

    async def ask():
        async with aclosing(client.generate(request)) as pieces:
            await anext(pieces)
            with pytest.raises(RequestRefused, match="twin"):
                await anext(client.generate(request))
            await anext(pieces)

    runner.run(ask())


def test_observers_learn_of_every_sample_that_ends(runner, client):
    seen = []
    client.observe(lambda request, record: seen.append((request.id, record.sample, record.finish_reason)))
    request = Request(id="observed", prompt_token_ids=(5, 6), sampling=SamplingParams(n=2, max_tokens=3))

    async def ask():
        await completed(request, client.generate(request))
        async with aclosing(
            client.generate(Request(id="gone", prompt_token_ids=(5,), sampling=ENDLESS))
        ) as pieces:
            await anext(pieces)
        await client.stats()
        await client.stats()  # by now the engine's last word on the request is here

    runner.run(ask())
    samples = {each[:2] for each in seen if each[0] != "twin"}  # of the test before, perhaps
    assert samples == {("observed", 0), ("observed", 1), ("gone", 0)}
    assert ("gone", 0, "abort") in seen


def test_a_model_of_text_has_no_vectors(runner, client):
    with pytest.raises(RequestRefused, match="generates text"):
        runner.run(client.embed([[1, 2]]))
    with pytest.raises(RequestRefused, match="generates text"):
        runner.run(client.score([[1, 2]]))


def test_counts_of_the_engine_add_up(runner, client):
    async def ask():
        before = await client.stats()
        request = Request(id="counted", prompt_token_ids=(5, 6, 7), sampling=SHORT)
        await completed(request, client.generate(request))
        return before, await client.stats()

    before, after = runner.run(ask())
    assert after.generated_tokens - before.generated_tokens == 8
    assert after.computed_tokens - before.computed_tokens in (
        10,
        11,
    )  # with overlap one row may be for nothing
    assert after.steps - before.steps in (8, 9)
    assert after.busy_seconds > before.busy_seconds
    assert after.kv_total > 0
