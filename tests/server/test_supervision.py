"""Engines that die, drain, or lose their parent."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest
from engines import ENDLESS, completed, demo_config

from quire.engine.request import Request, SamplingParams
from quire.engine.sequence import FinishReason
from quire.errors import UserError
from quire.server.client import EngineDead, EngineStatus, EngineUnavailable
from quire.server.limits import EngineLimits
from quire.server.process import ProcessEngineClient

SHORT = SamplingParams(temperature=0.0, max_tokens=5, ignore_eos=True)


def endless(name: str) -> Request:
    return Request(id=name, prompt_token_ids=(5, 6, 7), sampling=ENDLESS)


def make_client(tmp_path, **limits) -> ProcessEngineClient:
    return ProcessEngineClient(
        config=demo_config(), directory=tmp_path, limits=EngineLimits(restart_seconds=0.01, **limits)
    )


async def read_to_the_end(pieces):
    return [piece async for piece in pieces]


async def ready_again(client):
    """Nothing tells when a restart is over but the status that a health check reads."""
    while client.status is not EngineStatus.READY:
        await asyncio.sleep(0.01)


def test_a_killed_engine_fails_what_was_in_flight_and_is_restarted_so_often(tmp_path):
    async def run():
        client = make_client(tmp_path, max_restarts=1)
        await client.start()
        first_pid = client.pid

        first, second = client.generate(endless("one")), client.generate(endless("two"))
        await asyncio.gather(anext(first), anext(second))
        os.kill(client.pid, signal.SIGKILL)
        for pieces in (first, second):
            with pytest.raises(EngineDead, match=f"process {first_pid} was killed by SIGKILL"):
                await read_to_the_end(pieces)
        assert client.status is EngineStatus.DEAD
        with pytest.raises(EngineDead, match="SIGKILL") as refusal:
            await anext(client.generate(endless("meanwhile")))
        assert refusal.value.retry_after > 0

        await ready_again(client)
        request = Request(id="one", prompt_token_ids=(5, 6), sampling=SHORT)
        whole = await completed(request, client.generate(request))
        assert len(whole.samples[0].token_ids) == 5
        assert (await client.stats()).restarts == 1
        assert client.pid != first_pid

        third = client.generate(endless("three"))
        await anext(third)
        os.kill(client.pid, signal.SIGKILL)
        with pytest.raises(EngineDead):
            await read_to_the_end(third)
        with pytest.raises(EngineDead) as refusal:
            await anext(client.generate(request))
        assert refusal.value.retry_after is None
        with pytest.raises(EngineDead):
            await client.stats()
        assert client.status is EngineStatus.DEAD
        assert client.pid is None
        await client.close()

    asyncio.run(run())


def test_signals_to_the_group_are_not_the_engines_to_act_on_and_a_drain_ends_what_runs(tmp_path):
    async def run():
        client = make_client(tmp_path)
        with pytest.raises(EngineUnavailable):
            await anext(client.generate(endless("early")))
        await client.start()
        pid = client.pid
        async with aclosing(client.generate(endless("steady"))) as pieces:
            await anext(pieces)
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
            await anext(pieces)
        request = Request(id="last", prompt_token_ids=(5, 6), sampling=SHORT)
        reading = asyncio.create_task(completed(request, client.generate(request)))
        await client.stats()  # it runs by now
        assert await client.drain(60)
        assert client.status is EngineStatus.DRAINING
        assert len((await reading).samples[0].token_ids) == 5
        with pytest.raises(EngineUnavailable, match="draining"):
            await anext(client.generate(endless("late")))
        await client.close()
        await client.close()
        assert client.status is EngineStatus.DEAD
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    asyncio.run(run())


def test_what_outlasts_a_drain_is_aborted_and_a_closed_engine_fails_its_requests(tmp_path):
    async def run():
        client = make_client(tmp_path)
        await client.start()
        async with aclosing(client.generate(endless("long"))) as pieces:
            await anext(pieces)
            assert not await client.drain(0)
            *_, last = await read_to_the_end(pieces)
        assert last.finish_reason is FinishReason.ABORT
        await client.close()

        client = make_client(tmp_path)
        await client.start()
        async with aclosing(client.generate(endless("cut"))) as pieces:
            await anext(pieces)
            await client.close()
            with pytest.raises(EngineDead, match="closed"):
                await read_to_the_end(pieces)

    asyncio.run(run())


def test_a_mistake_in_the_configuration_is_the_users(tmp_path):
    async def run():
        client = ProcessEngineClient(config=demo_config("model=/nowhere"), directory=tmp_path)
        with pytest.raises(UserError, match="/nowhere"):
            await client.start()
        assert client.pid is None
        await client.close()

    asyncio.run(run())


ORPHAN = """
import asyncio, os, signal, sys
from pathlib import Path
from engines import demo_config
from quire.server.process import ProcessEngineClient

async def main():
    client = ProcessEngineClient(config=demo_config(), directory=Path(sys.argv[1]))
    await client.start()
    print(client.pid, flush=True)
    sys.stdin.read(1)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_parent_that_is_killed_leaves_no_engine_behind(tmp_path):
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        engine = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.stdin.write("x")
            parent.stdin.flush()
            assert parent.wait(timeout=60) == -signal.SIGKILL
            assert select.select([engine], [], [], 60)[0], "the engine outlives its parent"
        finally:
            os.close(engine)
