"""What is compared: an engine that is stepped, and a server whose streams are read."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "serving_common"))

from load import make_requests
from quire_server import Server, quire_server
from streams import Job, play

_REST = 0.002
"""Seconds that the client sleeps between two looks at its sockets; what comes is seen up to so much late."""


class Arm(ABC):
    """Processes that wait for work. What `play` returns: output tokens, and those a second; the median of the
    milliseconds to the first token; the CPU seconds of each process in it.
    """

    @abstractmethod
    def play(self, count: int, round: int, concurrency: int, answers: str) -> dict[str, Any]:
        """Serve the requests of a round, with answers as `load` has them, so many in flight at any time."""


class Offline(Arm):
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def play(self, count: int, round: int, concurrency: int, answers: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count} {round} {concurrency} {answers}\n")
        self._process.stdin.flush()
        result = json.loads(self._process.stdout.readline())
        return result | {"first_token_ms": statistics.median(result["first_token_ms"])}


class Http(Arm):
    def __init__(self, server: Server) -> None:
        self._server = server

    def play(self, count: int, round: int, concurrency: int, answers: str) -> dict[str, Any]:
        jobs, tokens = list[Job](), 0
        for index, (prompt, length) in enumerate(make_requests(count, round, answers)):
            fields = {"prompt": prompt, "max_tokens": length, "temperature": 0, "ignore_eos": True}
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
            jobs.append(Job(str(index), json.dumps(fields).encode()))
            tokens += length
        before, client, began = self._server.cpu_seconds(), time.process_time(), time.perf_counter()
        came = play(self._server.port, jobs, concurrency=concurrency, rest=_REST)
        seconds = time.perf_counter() - began
        failed = [answer.error for answer in came if answer.error is not None]
        assert not failed, failed[0]
        front, engine = (a - b for a, b in zip(self._server.cpu_seconds(), before, strict=True))
        client = time.process_time() - client
        events = [answer.events() for answer in came]
        told = sum(each[-1]["usage"]["completion_tokens"] for each in events)
        assert told == tokens, f"{told} tokens came, {tokens} were asked for"
        return {
            "tokens": tokens,
            "tokens_per_second": tokens / seconds,
            "first_token_ms": statistics.median(answer.seconds_to_first for answer in came) * 1e3,
            "cpu_seconds": {"engine": engine, "front": front, "client": client},
            "tokens_per_event": tokens / sum(len(each) - 1 for each in events),
        }


@contextmanager
def offline_arm(*overrides: str) -> Iterator[Offline]:
    """An engine in a process of its own."""
    command = [sys.executable, str(Path(__file__).parent / "offline_arm.py"), *overrides]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "the engine could not be loaded"
        yield Offline(process)
        process.stdin.close()


@contextmanager
def http_arm(directory: Path, *overrides: str) -> Iterator[Http]:
    """`task=serve`: a process for HTTP and one for the engine."""
    with quire_server(directory, *overrides) as server:
        yield Http(server)
