"""How quire's speed on a CPU grows with what it is given: sequences at once, context, requests that wait.

    python experiments/cpu_growth/measure.py            # five to fifteen minutes
    python experiments/cpu_growth/measure.py --quick    # about one, to try it

Speed is that of decoding: steps in which every sequence gets one token, prompts excluded. The waiting queue
is measured with a model so small that the engine's own work shows; requests wait behind 64 that run.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from curves import plot

from quire.config.compose import compose
from quire.engine.engine import Engine
from quire.engine.request import Request, SamplingParams
from quire.jobs.provenance import command_line, commit_of, describe_machine
from quire.metrics.phases import report_phases
from quire.registry import load_registry
from quire.run import Run

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "cpu_speed"))
from workload import SHAPES, make_checkpoint  # noqa: E402

RUNNING = 64
"""Sequences that run while others wait."""
SCHEDULING = ("schedule", "dispatch", "commit", "tell", "output")
"""Phases of the engine's thread that could grow with the queue."""


@dataclass(frozen=True)
class Sizes:
    """What is measured, and how long."""

    sequences: tuple[int, ...]
    contexts: tuple[int, ...]
    waiting: tuple[int, ...]
    context_sequences: int
    steps: int
    rounds: int


FULL = Sizes(
    sequences=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    contexts=(128, 512, 2048, 4096, 8192, 16384),
    waiting=(10, 100, 1000, 10000),
    context_sequences=2,
    steps=24,
    rounds=3,
)
QUICK = Sizes(
    sequences=(1, 16, 256), contexts=(128, 1024), waiting=(10, 1000), context_sequences=2, steps=6, rounds=1
)


class Bench:
    """An engine, and requests with fresh random prompts for it."""

    def __init__(self, model: Path, *overrides: str) -> None:
        registry = load_registry()
        config = compose([f"model={model}", "dtype=bfloat16", "engine.profile=true", *overrides], registry)
        run = Run(config=config, registry=registry, directory=Path(tempfile.gettempdir()))
        self.engine: Engine = run.engine(with_text=False)
        self._rng = np.random.Generator(np.random.PCG64(0))
        self._next = 0

    def add(self, count: int, prompt: int, output: int) -> None:
        """Queue `count` requests of so many tokens."""
        for _ in range(count):
            self._next += 1
            self.engine.add(
                Request(
                    id=str(self._next),
                    prompt_token_ids=tuple(
                        self._rng.integers(0, self.engine.info.vocab_size, prompt).tolist()
                    ),
                    sampling=SamplingParams(temperature=0.0, max_tokens=output),
                    forced_output_tokens=output,
                )
            )

    def clear(self) -> None:
        """End all requests."""
        while self.engine.has_work:
            for request in range(1, self._next + 1):
                self.engine.abort(str(request))
            self.engine.step()
        self.engine.take_records()

    def decode(self, sequences: int, context: int, steps: int) -> dict[str, float]:
        """Serve so many sequences with prompts of `context` tokens; speeds of the prompts and of decoding."""
        self.add(sequences, context, meanwhile(sequences, context) + steps)
        records, full = [], 0
        while full < steps:
            self.engine.step()
            records += self.engine.take_records()
            full = sum(record.decode_sequences == sequences for record in records)
        self.clear()
        first = next(i for i, record in enumerate(records) if record.decode_sequences == sequences)
        ends = [record.end for record in records[first - 1 : first + steps]]
        step = statistics.median(np.diff(ends).tolist())
        prompts = records[first - 1].end - records[0].start
        return {
            "decode_tokens_per_second": sequences / step,
            "step_ms": step * 1e3,
            "prefill_tokens_per_second": sequences * context / prompts,
        }

    def crowd(self, waiting: int, steps: int) -> dict[str, float]:
        """Let `waiting` requests wait behind those that decode; what the engine's phases take of a step."""
        self.add(RUNNING, 16, steps + 16)
        while self.engine.num_waiting or any(r.prefill_tokens for r in self.engine.take_records()):
            self.engine.step()
        began = time.perf_counter()
        self.add(waiting, 16, 1)
        added = time.perf_counter() - began
        for _ in range(3):
            self.engine.step()
        self.engine.take_records()
        self.engine.profile.reset()
        began, tokens = time.perf_counter(), 0
        for _ in range(steps):
            tokens += len(self.engine.step())
            self.engine.take_records()
        seconds = time.perf_counter() - began
        phases = {each.name: each.mean_us for each in report_phases(self.engine.profile).phases}
        assert self.engine.num_waiting == waiting
        self.clear()
        return {
            "engine_us": sum(phases[name] for name in SCHEDULING),
            **{f"{name}_us": phases[name] for name in SCHEDULING},
            "tokens_per_second": tokens / seconds,
            "add_us": added / waiting * 1e6,
        }


def meanwhile(sequences: int, context: int) -> int:
    """More tokens than the first sequence gets before the last one's prompt is done."""
    return sequences * context // 512 + 8


def sweep(
    name: str, values: tuple[int, ...], rounds: int, measure: Callable[[int], dict[str, float]]
) -> list[dict]:
    """Medians over rounds, each of which goes through all values; one more goes before, to warm up."""
    made: dict[int, list[dict[str, float]]] = {value: [] for value in values}
    measure(values[0])
    for _ in range(rounds):
        for value in values:
            made[value].append(measure(value))
    rows = []
    for value, each in made.items():
        row = {key: statistics.median(one[key] for one in each) for key in each[0]}
        rows.append({name: value, **row, "rounds": each})
        print(
            f"{name} {value}: " + ", ".join(f"{key} {number:,.1f}" for key, number in row.items()), flush=True
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few and short, to try it")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="135m")
    parser.add_argument("--scheduler", default="fcfs")
    parser.add_argument("--out", type=Path, default=HERE / "results.json", help="a .png goes beside it")
    parser.add_argument("overrides", nargs="*", help="as on quire's command line")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    longest = max(sizes.contexts) + meanwhile(sizes.context_sequences, max(sizes.contexts)) + 2 * sizes.steps
    overrides = (f"scheduler={arguments.scheduler}", *arguments.overrides)
    with tempfile.TemporaryDirectory() as directory:
        model, small = Path(directory) / "model", Path(directory) / "small"
        make_checkpoint(model, SHAPES[arguments.shape], max_tokens=longest)
        make_checkpoint(small, SHAPES["tiny"])
        many = Bench(model, "engine.max_sequences=256", "engine.max_model_tokens=256", *overrides)
        by_sequences = sweep(
            "sequences", sizes.sequences, sizes.rounds, lambda n: many.decode(n, 64, sizes.steps)
        )
        many.engine.close()
        deep = Bench(model, f"engine.max_sequences={sizes.context_sequences}", *overrides)
        by_context = sweep(
            "context",
            sizes.contexts,
            sizes.rounds,
            lambda n: deep.decode(sizes.context_sequences, n, sizes.steps),
        )
        deep.engine.close()
        crowded = Bench(small, f"engine.max_sequences={RUNNING}", *overrides)
        by_waiting = sweep(
            "waiting", sizes.waiting, sizes.rounds, lambda n: crowded.crowd(n, 10 * sizes.steps)
        )
        crowded.engine.close()
    report = {
        "command": command_line("experiments/cpu_growth/measure.py"),
        "commit": commit_of(Path(__file__)),
        "machine": describe_machine(),
        "versions": {name: version(name) for name in ("quire", "torch")}
        | {"python": platform.python_version()},
        "shape": arguments.shape,
        "context_sequences": sizes.context_sequences,
        "running": RUNNING,
        "sequences": by_sequences,
        "context": by_context,
        "waiting": by_waiting,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    plot(report, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
