"""The engine by itself, in a process that waits for orders: a line `count round concurrency answers` on its
input is answered with a line of JSON: output tokens a second, milliseconds to each first token, CPU seconds.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from load import make_requests

from quire.config.compose import compose
from quire.engine.engine import Engine
from quire.engine.request import Request, SamplingParams
from quire.jobs.heap import settle_heap
from quire.registry import load_registry
from quire.run import Run


def requests(count: int, round: int, answers: str) -> Iterator[Request]:
    for index, (prompt, tokens) in enumerate(make_requests(count, round, answers)):
        yield Request(
            id=str(index),
            prompt_token_ids=tuple(prompt),
            sampling=SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True),
        )


def measure(engine: Engine, upcoming: list[Request], concurrency: int) -> dict[str, object]:
    """Serve them, the last one first, with so many in flight at any time."""
    tokens, living, first_ms = 0, 0, list[float]()
    cpu, began = time.process_time(), time.perf_counter()
    while upcoming or engine.has_work:
        while upcoming and living < concurrency:
            engine.add(upcoming.pop(), whole=True)  # as offline tasks do
            living += 1
        for output in engine.step():
            tokens += len(output.token_ids)
            if output.record is not None:
                living -= 1
                first_ms.append((output.record.token_times[0] - output.record.arrival) * 1e3)
        engine.take_records()
    seconds = time.perf_counter() - began
    return {
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "first_token_ms": first_ms,
        "cpu_seconds": {"engine": time.process_time() - cpu},
    }


def main() -> None:
    config = compose(sys.argv[1:])
    with tempfile.TemporaryDirectory() as directory:
        run = Run(config=config, registry=load_registry(), directory=Path(directory))
        with closing(run.engine()) as engine:
            settle_heap()  # as the server's engine does
            print("ready", flush=True)
            for line in sys.stdin:
                *numbers, answers = line.split()
                count, round, concurrency = map(int, numbers)
                upcoming = list(requests(count, round, answers))[::-1]
                print(json.dumps(measure(engine, upcoming, concurrency)), flush=True)


if __name__ == "__main__":
    main()
