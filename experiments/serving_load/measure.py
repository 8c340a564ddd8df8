"""Does a server under load lose, mix up or leak anything?

    python experiments/serving_load/measure.py              # 5 minutes, then 10,000 dropped connections
    python experiments/serving_load/measure.py --seconds 60 --drops 2000

Starts `task=serve` on the bundled model with `server.limits.check_memory`, so that each time it falls idle
the engine checks its KV memory, and dies if a block is missing or held by nobody. Then:

1. so many streams at a time for so many seconds; the text of each must be that of the same request offline;
2. connections dropped at different moments, after which the server must have nothing to do within seconds;
3. every request once more.

Memory is the resident size of both processes, every second; its slope is fitted over the second half of
part 1. KV memory is limited to what the first seconds of load fill: untouched pages are not resident, and the
first use of a larger one would look like a leak.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "serving_common"))

from drops import drop
from memory import PROCESSES, Memory
from quire_server import Server, quire_server, wait_until
from streams import Answer, Job, metrics, play, request_bytes, stream

from quire.jobs.provenance import command_line, commit_of, describe_machine

HERE = Path(__file__).parent
_PROMPTS = 256
_MOST_SLOPE = 2.0
"""MiB a minute that count as flat: what a histogram, a log's buffer or the heap's edges may move."""
_IDLE_SECONDS = 30.0
_LOAD = "load"
_COUNTS = ("engine_restarts_total", "engine_up", "generation_tokens_total", "num_preemptions_total")


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
    exact = ["dtype=float32", f"engine.max_sequences={arguments.concurrency}", *arguments.overrides]
    requests = make_requests()
    texts = offline_texts(requests, exact)
    fields = {"temperature": 0, "ignore_eos": True, "stream": True}
    jobs = [
        Job(str(index), json.dumps({"prompt": prompt, "max_tokens": length, **fields}).encode())
        for index, (prompt, length) in enumerate(requests)
    ]
    long = json.dumps({"prompt": requests[0][0], "max_tokens": 700, **fields}).encode()
    limited = [
        *("server.limits.check_memory=true", f"engine.kv_bytes={arguments.kv_bytes}"),
        "executor.prefault=true",  # KV memory that is written for the first time is not a leak
    ]
    with (
        tempfile.TemporaryDirectory() as directory,
        quire_server(Path(directory), *limited, *exact) as server,
        Memory(server) as memory,
    ):
        began = time.monotonic()
        load = stream(server.port, endless(jobs, arguments.seconds), concurrency=arguments.concurrency)
        streams = check(load, texts)
        memory.mark(_LOAD, began)
        growth = memory.growth(_LOAD)
        print(f"streams: {streams}, memory: {growth}", flush=True)

        began = time.monotonic()
        dropped = drop(server.port, request_bytes("/v1/completions", long), arguments.drops)
        seconds = time.monotonic() - began
        idle = wait_until(lambda: is_idle(server), _IDLE_SECONDS)
        memory.mark("drops", began)
        drops = {
            "connections": dropped,
            "seconds": seconds,
            "idle_afterwards": idle,
            "seconds_until_idle": time.monotonic() - began - seconds,
        }
        print(f"drops: {drops}", flush=True)

        began = time.monotonic()
        again = check(play(server.port, jobs, concurrency=arguments.concurrency), texts)
        memory.mark("again", began)
        engine = metrics(server.port, *_COUNTS)
    memory.write(arguments.out.with_name("memory.csv"))
    memory.draw(arguments.out.with_name("memory.png"))
    whole = all(not part["lost"] and not part["mixed_up"] and part["streams"] for part in (streams, again))
    return {
        "concurrency": arguments.concurrency,
        "streams": streams,
        "growth": growth,
        "drops": drops,
        "streams_again": again,
        "engine": engine,
        "holds": {
            "none lost, none mixed up": whole,
            "memory flat": all(growth[name]["mib_per_minute"] <= _MOST_SLOPE for name in PROCESSES),
            "no request left behind": idle,
            "KV memory whole": engine["engine_restarts_total"] == 0 and engine["engine_up"] == 1,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--drops", type=int, default=10_000)
    parser.add_argument("--kv-bytes", default="128MiB", help="of the server's KV memory")
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
