"""What it costs to have the engine in another process: the same requests, offline and through the client.

    python experiments/serving_overhead/pipe.py

Three arms take turns on the bundled model: `offline` steps an engine in this process; `streams` reads every
piece of every request from an engine process, as a server that streams does; `whole` takes each sample in one
piece, as a server that does not. All keep the same number of requests going. Throughput is output tokens over
wall time; `added_ttft_ms` is what a reader sees beyond the engine's own time to first token.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

from quire.config.compose import compose
from quire.engine.engine import Engine
from quire.engine.request import Request, SamplingParams
from quire.jobs.feed import serve
from quire.jobs.provenance import command_line, commit_of, describe_machine
from quire.registry import load_registry
from quire.run import Run
from quire.server.client import EngineClient
from quire.server.process import ProcessEngineClient


def make_requests(number: int, tokens: int, round: int) -> list[Request]:
    """Prompts of 16 to 111 tokens, no two alike in any round; outputs of `tokens` tokens."""
    sampling = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)
    return [
        Request(
            id=f"{round}-{index}",
            prompt_token_ids=tuple(
                ((round * number + index) * 131 + j * 17) % 2000 + 8 for j in range(16 + index % 96)
            ),
            sampling=sampling,
        )
        for index in range(number)
    ]


def offline(engine: Engine, requests: list[Request], concurrency: int) -> float:
    """Seconds for all of them, `concurrency` at a time as the engine's own limit has it."""
    assert engine.num_running == engine.num_waiting == 0
    began = time.perf_counter()
    for _ in serve(engine, requests, max_waiting=concurrency, whole=True):
        engine.take_records()
    return time.perf_counter() - began


async def served(
    client: EngineClient, requests: list[Request], concurrency: int, *, whole: bool
) -> tuple[float, list[float]]:
    """Seconds for all of them, and for each the milliseconds that its first token took longer than in the
    engine."""
    upcoming = iter(requests)
    added: list[float] = []

    async def reader() -> None:
        for request in upcoming:
            asked, first = time.perf_counter(), None
            async for piece in client.generate(request, whole=whole):
                first = first or time.perf_counter()
                if piece.record is not None and first is not None:
                    own = piece.record.token_times[0] - piece.record.arrival
                    added.append((first - asked - own) * 1e3)

    began = time.perf_counter()
    await asyncio.gather(*(reader() for _ in range(concurrency)))
    return time.perf_counter() - began, added


async def measure(arguments: argparse.Namespace, directory: Path) -> dict[str, list[float]]:
    config = compose([f"engine.max_sequences={arguments.concurrency}", *arguments.overrides])
    run = Run(config=config, registry=load_registry(), directory=directory)
    client = ProcessEngineClient(config=config, directory=directory)
    results: dict[str, list[float]] = {"offline": [], "streams": [], "whole": [], "added_ttft_ms": []}
    await client.start()
    with closing(run.engine()) as engine:
        for repeat in range(arguments.repeats + 1):
            tokens = arguments.requests * arguments.tokens
            of_streams, of_whole = (
                make_requests(arguments.requests, arguments.tokens, 2 * repeat + arm) for arm in (0, 1)
            )
            seconds = {"offline": offline(engine, of_streams, arguments.concurrency)}
            seconds["streams"], added = await served(client, of_streams, arguments.concurrency, whole=False)
            seconds["whole"], _ = await served(client, of_whole, arguments.concurrency, whole=True)
            if repeat:  # the first round warms up
                for arm, each in seconds.items():
                    results[arm].append(tokens / each)
                results["added_ttft_ms"].append(statistics.median(added))
    await client.close()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=192)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--overrides", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "pipe.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        results = asyncio.run(measure(arguments, Path(directory)))
    medians = {arm: statistics.median(each) for arm, each in results.items()}
    ratios = {
        arm: statistics.median(a / b for a, b in zip(results[arm], results["offline"], strict=True))
        for arm in ("streams", "whole")
    }
    report = {
        "command": command_line("experiments/serving_overhead/pipe.py"),
        "commit": commit_of(Path(__file__)),
        "python": platform.python_version(),
        "machine": describe_machine(),
        "medians": medians,
        "of_offline_throughput": ratios,
        "runs": results,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    for arm in ("offline", "streams", "whole"):
        print(f"{arm}: {medians[arm]:,.0f} tokens/s [{min(results[arm]):,.0f}, {max(results[arm]):,.0f}]")
    print(f"of offline: streams {ratios['streams']:.1%}, whole {ratios['whole']:.1%}")
    print(f"added to the time to first token, p50: {medians['added_ttft_ms']:.2f} ms")


if __name__ == "__main__":
    main()
