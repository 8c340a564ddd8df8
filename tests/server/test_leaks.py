"""What requests leave behind when they are over: nothing."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing
from dataclasses import replace

from engines import ENDLESS, demo_engine

from quire.engine.request import Request, SamplingParams
from quire.server.limits import EngineLimits
from quire.server.local import LocalEngineClient
from quire.server.metrics import ServerMetrics

REQUESTS = 120
SHORT = SamplingParams(temperature=0.0, max_tokens=3, ignore_eos=True, logprobs=1)
KINDS = (SHORT, replace(SHORT, n=2), replace(SHORT, stop=("zzz",)), replace(SHORT, temperature=1.0, seed=1))


def test_no_object_outlives_its_request():
    async def one(client: LocalEngineClient, name: str, index: int) -> None:
        leaves = index % 5 == 0
        sampling = ENDLESS if leaves else KINDS[index % len(KINDS)]
        request = Request(id=name, prompt_token_ids=(5, 6, 7 + index % 8), sampling=sampling)
        async with aclosing(client.generate(request, whole=index % 3 == 0 and not leaves)) as pieces:
            async for _ in pieces:
                if leaves:
                    return

    async def play() -> list[int]:
        with demo_engine() as loaded:
            client = LocalEngineClient(
                engine=loaded.engine, card=loaded.card, limits=EngineLimits(check_memory=True)
            )
            client.observe(ServerMetrics(model_name="demo").observe)
            await client.start()
            living: list[int] = []
            for turn in range(4):
                async with asyncio.TaskGroup() as tasks:
                    for index in range(REQUESTS):
                        tasks.create_task(one(client, f"{turn}-{index}", index))
                while (await client.stats()).running:
                    await asyncio.sleep(0.01)
                gc.collect()
                living.append(len(gc.get_objects()))
            await client.close()
            return living

    living = asyncio.run(play())
    assert living[-1] - living[1] < REQUESTS // 4, f"objects after each turn of {REQUESTS} requests: {living}"
