"""Requests that end early, and what the log and the metrics say of all of them."""

import asyncio
import errno
import json
import os
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from asgi import Wire
from live_server import LiveServer

from quire.jobs.jsonl import JsonLinesWriter
from quire.server.http.access_log import AccessLog

LONG = {"prompt": "Once upon a time", "max_tokens": 1000, "ignore_eos": True}


def eventually(holds, seconds=5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return False


def is_idle(server) -> bool:
    stats = server.stats()
    return stats.running == stats.waiting == 0


@pytest.mark.parametrize("path", ["completions", "chat/completions", "responses"])
def test_leaving_a_stream_frees_its_request(server, http, path):
    body = {
        "completions": LONG,
        "chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
        "responses": {"input": "Hi"},
    }[path]
    with http.stream("POST", f"/v1/{path}", json=body | {"stream": True, "ignore_eos": True}) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert not is_idle(server)
    assert eventually(lambda: is_idle(server), 2.0)
    assert eventually(lambda: server.log_lines()[-1]["status"] == 499)


def test_leaving_a_whole_answer_frees_its_requests(server):
    async def leave() -> None:
        async with httpx.AsyncClient(base_url=server.url) as client:
            body = LONG | {"prompt": ["a", "b", "c"], "n": 2}
            task = asyncio.create_task(client.post("/v1/completions", json=body))
            while await asyncio.to_thread(is_idle, server):
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(leave())
    assert eventually(lambda: is_idle(server), 2.0)
    assert eventually(lambda: server.log_lines()[-1]["status"] == 499)


def test_the_log_has_a_line_for_each_request_and_no_prompt(server, http):
    answer = http.post(
        "/v1/completions",
        json={"prompt": "a secret", "max_tokens": 3, "user": "team", "ignore_eos": True},
        headers={"x-request-id": "mine-1"},
    )
    assert answer.headers["x-request-id"] == "mine-1"
    assert eventually(lambda: server.log_lines()[-1]["request_id"] == "mine-1")
    line = server.log_lines()[-1]
    known = {"method": "POST", "route": "/v1/completions", "status": 200, "model": "demo", "tenant": "team"}
    assert line | known == line
    assert (line["output_tokens"], line["stream"]) == (3, False)
    assert 0 < line["seconds_to_first_byte"] <= line["seconds"]
    assert "secret" not in server.access_log.read_text()


@pytest.mark.parametrize("given", ["", "a b", "x" * 129])
def test_an_id_that_is_none_is_replaced(http, given):
    assert len(http.get("/health", headers={"x-request-id": given}).headers["x-request-id"]) == 32


def test_prompts_are_logged_if_the_owner_wants_it(tmp_path):
    with LiveServer(tmp_path, log_prompts=True) as server:
        httpx.post(f"{server.url}/v1/completions", json={"prompt": "a secret", "max_tokens": 1})
        assert eventually(lambda: bool(server.log_lines()))
    assert json.loads(server.log_lines()[0]["body"])["prompt"] == "a secret"


def test_a_full_disk_stops_no_request(caplog):
    class Writer(JsonLinesWriter):
        full = True

        def append(self, data) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def answer(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def three() -> list[Wire]:
        wires = [Wire() for _ in range(3)]
        for index, wire in enumerate(wires):
            writer.full = index < 2
            await log(wire.scope, wire.receive, wire.send)
        return wires

    with closing(Writer(Path(os.devnull))) as writer:
        log = AccessLog(answer, writer=writer)
        assert [wire.status for wire in asyncio.run(three())] == [200] * 3
    assert [record.message for record in caplog.records] == [
        "the access log cannot be written: [Errno 28] No space left on device; requests go on without it",
        "the access log can be written again; 2 lines are missing",
    ]


def test_metrics_count_what_was_served(http):
    def value(name: str) -> float:
        text = http.get("/metrics").text
        (line,) = [line for line in text.splitlines() if line.startswith(f"quire:{name}")]
        return float(line.rsplit(" ", 1)[1])

    before = value("generation_tokens_total")
    http.post("/v1/completions", json={"prompt": "a", "max_tokens": 5, "ignore_eos": True})
    assert value("generation_tokens_total") == before + 5
    assert value("engine_up") == 1


def test_what_is_served(http):
    listed = http.get("/v1/models").json()
    assert [each["id"] for each in listed["data"]] == ["demo", "other-name"]
    assert listed["data"][0]["max_model_len"] == 1024
    assert http.get("/v1/models/other-name").json()["id"] == "other-name"
    assert http.get("/version").json() == {"version": "0"}
    assert http.get("/health").json() == http.get("/ready").json() == {"status": "ready"}


def test_cors_only_if_asked_for(tmp_path, http):
    preflight = {"origin": "http://page", "access-control-request-method": "POST"}
    answer = http.options("/v1/completions", headers=preflight)
    assert "access-control-allow-origin" not in answer.headers
    with LiveServer(tmp_path, cors_origins=["http://page"], api_keys=["key"]) as server:
        answer = httpx.options(f"{server.url}/v1/completions", headers=preflight)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "http://page"
        answer = httpx.get(f"{server.url}/v1/models", headers={"origin": "http://page"})
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == "http://page"
