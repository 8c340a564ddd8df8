"""Does a server under load lose, mix up or leak anything?

    python experiments/serving_load/measure.py              # 5 minutes, then 10,000 dropped connections
    python experiments/serving_load/measure.py --seconds 20 --drops 1000

Starts `task=serve` on the bundled model with `server.limits.check_memory`, so that each time it falls idle
the engine checks its KV memory, and dies if a block is missing or held by nobody. Then:

1. so many streams at a time for so many seconds; the text of each must be that of the same request offline;
2. connections dropped at different moments, after which the server must have nothing to do within seconds;
3. every request once more.

Memory is the resident size of both processes, every second; its slope is fitted over the second half of
part 1.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "serving_common"))

import numpy as np
from drops import drop
from quire_server import Server, quire_server, wait_until
from streams import Answer, Job, metrics, play, request_bytes, stream

from quire.jobs.provenance import command_line, commit_of, describe_machine

HERE = Path(__file__).parent
_PROMPTS = 256
_MOST_SLOPE = 2.0
"""MiB a minute that count as flat: what a histogram, a log's buffer or the heap's edges may move."""
_IDLE_SECONDS = 30.0


def make_requests(seed: int = 0) -> list[tuple[list[int], int]]:
    """Prompts of 8 to 200 tokens, outputs of 16 to 128."""
    draw = random.Random(seed)
    return [
        ([draw.randrange(8, 2000) for _ in range(draw.randrange(8, 200))], draw.choice((16, 48, 96, 128)))
        for _ in range(_PROMPTS)
    ]


def offline_texts(requests: Sequence[tuple[list[int], int]], overrides: Sequence[str]) -> list[str]:
    command = [sys.executable, str(HERE / "offline_texts.py"), *overrides]
    done = subprocess.run(command, input=json.dumps(requests), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


class Memory:
    """Samples the resident size of both processes, once a second, in a thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stopped = threading.Event()
        self._samples: list[tuple[float, int, int]] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._stopped.wait(1.0):
            self._samples.append((time.monotonic() - began, *self._server.rss()))

    def report(self) -> dict[str, Any]:
        """MiB at the half and at the end, and the slope between, of each process."""
        samples = np.asarray(self._samples[len(self._samples) // 2 :])
        if len(samples) < 3:
            return {}
        result: dict[str, Any] = {"samples": len(self._samples)}
        for column, name in ((1, "front"), (2, "engine")):
            size = samples[:, column] / 2**20
            slope = float(np.polyfit(samples[:, 0] / 60, size, 1)[0])
            result[name] = {"mib": [float(size[0]), float(size[-1])], "mib_per_minute": slope}
        return result


def endless(jobs: Sequence[Job], seconds: float) -> Iterator[Job]:
    """Jobs in an order drawn anew each time round, until the time is over."""
    end, draw = time.monotonic() + seconds, random.Random(1)
    while True:
        for job in draw.sample(jobs, len(jobs)):
            if time.monotonic() >= end:
                return
            yield job


def check(answers: Iterator[Answer] | Sequence[Answer], texts: Sequence[str]) -> dict[str, Any]:
    """Compare each answer with its text."""
    counts: dict[str, Any] = {"streams": 0, "lost": 0, "mixed_up": 0, "errors": []}
    for answer in answers:
        counts["streams"] += 1
        if answer.error is not None:
            counts["lost"] += 1
            counts["errors"] = [*counts["errors"], answer.error][:5]
        elif answer.text() != texts[int(answer.job.name)]:
            counts["mixed_up"] += 1
    return counts


def is_idle(server: Server) -> bool:
    return not any(metrics(server.port, "num_requests_running", "num_requests_waiting").values())


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    overrides = ["dtype=float32", f"engine.max_sequences={arguments.concurrency}", *arguments.overrides]
    requests = make_requests()
    texts = offline_texts(requests, overrides)
    fields = {"temperature": 0, "ignore_eos": True, "stream": True}
    jobs = [
        Job(str(index), json.dumps({"prompt": prompt, "max_tokens": length, **fields}).encode())
        for index, (prompt, length) in enumerate(requests)
    ]
    long = json.dumps({"prompt": requests[0][0], "max_tokens": 700, **fields}).encode()
    with (
        tempfile.TemporaryDirectory() as directory,
        quire_server(Path(directory), "server.limits.check_memory=true", *overrides) as server,
    ):
        with Memory(server) as memory:
            load = stream(server.port, endless(jobs, arguments.seconds), concurrency=arguments.concurrency)
            streams = check(load, texts)
        print(f"streams: {streams}, memory: {memory.report()}", flush=True)
        began = time.monotonic()
        dropped = drop(server.port, request_bytes("/v1/completions", long), arguments.drops)
        seconds = time.monotonic() - began
        idle = wait_until(lambda: is_idle(server), _IDLE_SECONDS)
        drops = {
            "connections": dropped,
            "seconds": seconds,
            "idle_afterwards": idle,
            "seconds_until_idle": time.monotonic() - began - seconds,
            "front_mib": server.rss()[0] / 2**20,
        }
        print(f"drops: {drops}", flush=True)
        again = check(play(server.port, jobs, concurrency=arguments.concurrency), texts)
        engine = metrics(server.port, "engine_restarts_total", "engine_up", "generation_tokens_total")
    slopes = [memory.report()[name]["mib_per_minute"] for name in ("front", "engine")]
    whole = all(not part["lost"] and not part["mixed_up"] and part["streams"] for part in (streams, again))
    return {
        "streams": streams,
        "memory": memory.report(),
        "drops": drops,
        "streams_again": again,
        "engine": engine,
        "holds": {
            "none lost, none mixed up": whole,
            "memory flat": max(slopes) <= _MOST_SLOPE,
            "no request left behind": idle,
            "KV memory whole": engine["engine_restarts_total"] == 0 and engine["engine_up"] == 1,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--drops", type=int, default=10_000)
    parser.add_argument("--overrides", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    arguments = parser.parse_args()
    report = {
        "command": command_line("experiments/serving_load/measure.py"),
        "commit": commit_of(Path(__file__)),
        "python": platform.python_version(),
        "machine": describe_machine(),
        **measure(arguments),
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    for what, holds in report["holds"].items():
        print(f"{'yes' if holds else 'NO':4}{what}")
    sys.exit(0 if all(report["holds"].values()) else 1)


if __name__ == "__main__":
    main()
