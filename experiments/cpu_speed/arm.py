"""What the arms of the comparison share: the arguments, the measuring, and the one line of JSON at the end.

An arm serves lists of requests, each all at once, and yields `(request, tokens)` as tokens come. Only the
standard library is used here: every arm runs in its own engine's environment.

    process start -> load -> one request of one token -> prefill alone -> the workload
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

Serve = Callable[[list[dict]], Iterable[tuple[int, int]]]
"""From requests (`prompt`: token ids, `output_tokens`: how many to generate, whatever they are) to pairs of a
request's index and how many tokens it got."""


def run_arm(
    load: Callable[[argparse.Namespace], Serve], *, describe: Callable[[], dict] | None = None
) -> None:
    """Measure what `load` loads and print it. `describe` adds what only this engine can say of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--requests", type=Path, required=True)
    parser.add_argument(
        "--started", type=float, required=True, help="when the process was started, epoch seconds"
    )
    parser.add_argument("overrides", nargs="*", help="as on quire's command line")
    arguments = parser.parse_args()
    lists = json.loads(arguments.requests.read_text())
    began = time.time()
    serve = load(arguments)
    loaded = time.time()
    first = {"prompt": lists["serve"][0]["prompt"][:16], "output_tokens": 1}
    timed(serve, [first])
    to_first_token = time.time() - arguments.started
    prefill = timed(serve, lists["prefill"])
    workload = timed(serve, lists["serve"])
    report = {
        "start_to_first_token": to_first_token,
        "load_seconds": loaded - began,
        "prefill_seconds": prefill,
        "prefill_tokens_per_second": sum(len(each["prompt"]) for each in lists["prefill"]) / prefill,
        "seconds": workload,
        "output_tokens": sum(each["output_tokens"] for each in lists["serve"]),
        "peak_rss_mib": sum(peaks(os.getpid())) / 1024,
    }
    report["tokens_per_second"] = report["output_tokens"] / workload
    print(json.dumps(report | (describe() if describe is not None else {})), flush=True)


def timed(serve: Serve, requests: list[dict]) -> float:
    """Seconds to serve `requests`. Every one must get exactly the tokens that it asks for."""
    got = [0] * len(requests)
    began = time.perf_counter()
    for index, tokens in serve(requests):
        got[index] += tokens
    seconds = time.perf_counter() - began
    wanted = [each["output_tokens"] for each in requests]
    assert got == wanted, f"asked for {wanted} tokens, got {got}"
    return seconds


def peaks(pid: int) -> Iterator[int]:
    """Peak resident KiB of a process and of its living descendants; what they share counts in each."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    if "VmHWM" in status:
        yield int(status["VmHWM"].split()[0])
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from peaks(int(child))
