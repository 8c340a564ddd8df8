"""What HTTP costs: the same requests offline, and streamed by the server.

    python experiments/serving_overhead/measure.py

Two arms take turns on the bundled model, in processes of their own, with the same number of requests in
flight at any time: `offline` steps an engine; `http` streams from `task=serve`, read by a client that shares
the machine. Throughput is output tokens over wall time. Time to first token is what the client sees, and for
`offline` the engine's own. Ratios and differences are of neighbours in time.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "serving_common"))

from load import make_requests
from quire_server import Server, quire_server
from streams import Job, play

from quire.jobs.provenance import command_line, commit_of, describe_machine

HERE = Path(__file__).parent
_MOST_LOST, _MOST_ADDED_MS = 0.10, 15.0
"""What may be lost of the throughput, and added to the median time to first token."""


@contextmanager
def offline_arm(*overrides: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(HERE / "offline_arm.py"), *overrides]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "the engine could not be loaded"
        yield process
        process.stdin.close()


def offline(arm: subprocess.Popen[str], count: int, round: int, concurrency: int) -> dict[str, Any]:
    assert arm.stdin is not None
    assert arm.stdout is not None
    arm.stdin.write(f"{count} {round} {concurrency}\n")
    arm.stdin.flush()
    return json.loads(arm.stdout.readline())


def http(server: Server, count: int, round: int, concurrency: int) -> dict[str, Any]:
    jobs, tokens = list[Job](), 0
    for index, (prompt, length) in enumerate(make_requests(count, round)):
        fields = {"prompt": prompt, "max_tokens": length, "temperature": 0, "ignore_eos": True}
        jobs.append(Job(str(index), json.dumps(fields | {"stream": True}).encode()))
        tokens += length
    before, client, began = server.cpu_seconds(), time.process_time(), time.perf_counter()
    answers = play(server.port, jobs, concurrency=concurrency)
    seconds = time.perf_counter() - began
    failed = [answer.error for answer in answers if answer.error is not None]
    assert not failed, failed[0]
    front, engine = (a - b for a, b in zip(server.cpu_seconds(), before, strict=True))
    return {
        "tokens_per_second": tokens / seconds,
        "first_token_ms": [answer.seconds_to_first * 1e3 for answer in answers],
        "cpu_seconds": {"front": front, "engine": engine, "client": time.process_time() - client},
        "reads_with_events": sum(len(answer.times) for answer in answers),
    }


def measure(arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    overrides = [f"engine.max_sequences={arguments.concurrency}", *arguments.overrides]
    runs: dict[str, list[dict[str, Any]]] = {"offline": [], "http": []}
    with (
        tempfile.TemporaryDirectory() as directory,
        quire_server(Path(directory), *overrides, *arguments.http_overrides) as server,
        offline_arm(*overrides) as arm,
    ):
        for repeat in range(arguments.repeats + 1):
            size = (arguments.requests, repeat, arguments.concurrency)
            pair = {"offline": lambda: offline(arm, *size), "http": lambda: http(server, *size)}  # noqa: B023
            for name in sorted(pair, reverse=repeat % 2 == 0):
                result = pair[name]()
                result["first_token_ms"] = statistics.median(result["first_token_ms"])
                if repeat:  # the first round warms up
                    runs[name].append(result)
                    print(
                        f"{name:8} {result['tokens_per_second']:8,.0f} tokens/s, "
                        f"first token {result['first_token_ms']:.1f} ms, CPU s "
                        + ", ".join(f"{k} {v:.2f}" for k, v in result["cpu_seconds"].items()),
                        flush=True,
                    )
    return runs


def summarise(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians, with the least and the most."""

    def spread(values: list[float]) -> dict[str, float]:
        return {"median": statistics.median(values), "least": min(values), "most": max(values)}

    pairs = list(zip(runs["offline"], runs["http"], strict=True))
    kept = spread([b["tokens_per_second"] / a["tokens_per_second"] for a, b in pairs])
    added = spread([b["first_token_ms"] - a["first_token_ms"] for a, b in pairs])
    return {
        "tokens_per_second": {
            name: spread([each["tokens_per_second"] for each in results]) for name, results in runs.items()
        },
        "first_token_ms": {
            name: spread([each["first_token_ms"] for each in results]) for name, results in runs.items()
        },
        "throughput_kept": kept,
        "added_first_token_ms": added,
        "holds": kept["median"] >= 1 - _MOST_LOST and added["median"] <= _MOST_ADDED_MS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=256, help="a round and arm")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--overrides", nargs="*", default=[], help="for both arms")
    parser.add_argument("--http-overrides", nargs="*", default=[], help="for the server alone")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    arguments = parser.parse_args()
    runs = measure(arguments)
    report = {
        "command": command_line("experiments/serving_overhead/measure.py"),
        "commit": commit_of(Path(__file__)),
        "python": platform.python_version(),
        "machine": describe_machine(),
        **summarise(runs),
        "runs": runs,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    kept, added = report["throughput_kept"], report["added_first_token_ms"]
    print(f"of offline throughput {kept['median']:.1%} [{kept['least']:.1%}, {kept['most']:.1%}]")
    print(f"added to the time to first token, p50: {added['median']:.1f} ms")


if __name__ == "__main__":
    main()
