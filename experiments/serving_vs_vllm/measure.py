"""quire's server against vLLM's on a CPU: the same checkpoint, requests and arrivals, at three rates.

    python experiments/serving_vs_vllm/measure.py --peers DIRECTORY
    python experiments/serving_vs_vllm/measure.py --shape tiny --requests 8 --rounds 1     # a short trial

The servers take turns, one process after the other, every other round in the opposite order; each meets all
rates in its turn. Arrivals are Poisson, drawn once for each rate; prompts are random token ids and outputs
have fixed lengths, all streamed. vLLM comes from the environment that experiments/cpu_speed/install_peers.py
makes, with tcmalloc and Intel's OpenMP preloaded. Latencies are the client's: to the first read that brings a
piece, and between two such reads; throughput is output tokens over the time from the first request to the
last byte.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.extend(str(Path(__file__).parents[1] / each) for each in ("serving_common", "cpu_speed"))

import numpy as np
from peers import DEFAULT_DIRECTORY, PEERS, Peer
from quire_server import quire_server
from streams import Answer, Job, play
from tokenizer_files import write_tokenizer
from vllm_server import vllm_server
from workload import SHAPES, make_checkpoint

from quire.jobs.provenance import command_line, commit_of, describe_machine

HERE = Path(__file__).parent
_LOWER_IS_BETTER = ("first_p50_ms", "first_p99_ms", "between_p50_ms", "between_p99_ms")
_FIGURES = ("tokens_per_second", *_LOWER_IS_BETTER)


def make_jobs(model: str, *, count: int, rate: float, vocab: int, seed: int) -> list[Job]:
    """Requests at `rate` a second on average; prompts of 32 to 384 tokens, outputs of 32 to 192."""
    draw = random.Random(f"{seed} {rate}")
    jobs, at = list[Job](), 0.0
    for index in range(count):
        at += draw.expovariate(rate) if index else 0.0
        prompt = [draw.randrange(256, vocab) for _ in range(draw.randrange(32, 385))]
        fields = {"model": model, "prompt": prompt, "max_tokens": draw.randrange(32, 193)}
        fields |= {"temperature": 0, "ignore_eos": True, "stream": True}
        fields |= {"stream_options": {"include_usage": True}}
        jobs.append(Job(str(index), json.dumps(fields).encode(), at=at))
    return jobs


@contextmanager
def serving(name: str, arguments: argparse.Namespace, model: Path, peer: Peer, log: Path) -> Iterator[int]:
    """The port of a server that runs."""
    most = arguments.max_sequences
    if name == "vLLM":
        with vllm_server(peer, model, log, max_sequences=most) as port:
            yield port
        return
    options = [f"model={model}", "server.served_names=[model]", "dtype=bfloat16"]
    options += [f"engine.max_sequences={most}", "engine.kv_bytes=4GiB", "executor.prefault=true"]
    options += arguments.overrides
    with tempfile.TemporaryDirectory() as directory, quire_server(Path(directory), *options) as server:
        yield server.port


def figures(answers: list[Answer]) -> dict[str, float]:
    failed = [answer.error for answer in answers if answer.error is not None]
    assert not failed, failed[0]
    tokens = sum(answer.events()[-1]["usage"]["completion_tokens"] for answer in answers)
    wanted = sum(json.loads(answer.job.body)["max_tokens"] for answer in answers)
    assert tokens == wanted, f"{tokens} tokens came, {wanted} were asked for"
    first = np.asarray([answer.seconds_to_first for answer in answers]) * 1e3
    between = np.concatenate([answer.gaps() for answer in answers]) * 1e3
    seconds = max(answer.times[-1] for answer in answers) - min(answer.asked for answer in answers)
    return {
        "tokens_per_second": tokens / seconds,
        "first_p50_ms": float(np.percentile(first, 50)),
        "first_p99_ms": float(np.percentile(first, 99)),
        "between_p50_ms": float(np.percentile(between, 50)),
        "between_p99_ms": float(np.percentile(between, 99)),
        "reads": sum(len(answer.times) for answer in answers),
    }


def turn(name: str, port: int, arguments: argparse.Namespace, vocab: int, seed: int) -> dict[str, Any]:
    """All rates on one server that has just been started."""
    warm = make_jobs("model", count=8, rate=4.0, vocab=vocab, seed=-1)
    assert not any(answer.error for answer in play(port, warm)), "it serves"
    results: dict[str, Any] = {}
    for rate in arguments.rates:
        jobs = make_jobs("model", count=arguments.requests, rate=rate, vocab=vocab, seed=seed)
        results[f"{rate:g}"] = figures(play(port, jobs))
        shown = ", ".join(f"{key} {value:,.1f}" for key, value in results[f"{rate:g}"].items())
        print(f"{name:6} {rate:g}/s: {shown}", flush=True)
    return results


def measure(arguments: argparse.Namespace, directory: Path) -> dict[str, list[dict[str, Any]]]:
    peer, shape = PEERS["vllm"](arguments.peers), SHAPES[arguments.shape]
    model = directory / "model"
    make_checkpoint(model, shape)
    write_tokenizer(model, shape.vocab)
    runs: dict[str, list[dict[str, Any]]] = {"quire": [], "vLLM": []}
    for number in range(arguments.rounds):
        for name in sorted(runs, reverse=number % 2 == 1):
            with serving(name, arguments, model, peer, directory / "vllm.log") as port:
                runs[name].append(turn(name, port, arguments, shape.vocab, seed=number))
            time.sleep(1.0)
    return runs


def summarise(runs: dict[str, list[dict[str, Any]]], rates: list[float]) -> dict[str, Any]:
    """Medians over the rounds, by rate, server and figure; and whether quire is ahead in each."""
    table = {
        f"{rate:g}": {
            name: {key: statistics.median(each[f"{rate:g}"][key] for each in turns) for key in _FIGURES}
            for name, turns in runs.items()
        }
        for rate in rates
    }
    ahead = {
        rate: {
            key: row["quire"][key] <= row["vLLM"][key]
            if key in _LOWER_IS_BETTER
            else row["quire"][key] >= row["vLLM"][key]
            for key in _FIGURES
        }
        for rate, row in table.items()
    }
    return {"medians": table, "quire_ahead": ahead}


def plot(table: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(_FIGURES), figsize=(3.4 * len(_FIGURES), 3.2), layout="constrained")
    rates = list(table)
    for axis, key in zip(axes, _FIGURES, strict=True):
        for name in ("quire", "vLLM"):
            axis.plot(rates, [table[rate][name][key] for rate in rates], marker="o", label=name)
        axis.set_title(key.replace("_", " "))
        axis.set_xlabel("requests a second")
        axis.set_ylim(bottom=0)
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, default=DEFAULT_DIRECTORY)
    parser.add_argument("--shape", choices=SHAPES, default="135m")
    parser.add_argument("--rates", type=float, nargs="*", default=[0.5, 1.0, 2.0])
    parser.add_argument("--requests", type=int, default=60, help="at each rate, in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-sequences", type=int, default=64, help="of both servers")
    parser.add_argument("--overrides", nargs="*", default=[], help="for quire")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # no server outlives the command
    with tempfile.TemporaryDirectory() as directory:
        runs = measure(arguments, Path(directory))
    summary = summarise(runs, arguments.rates)
    plot(summary["medians"], arguments.out.with_suffix(".png"))
    report = {
        "command": command_line("experiments/serving_vs_vllm/measure.py"),
        "commit": commit_of(Path(__file__)),
        "python": platform.python_version(),
        "versions": {"quire": version("quire"), "vllm": PEERS["vllm"](arguments.peers).version()},
        "machine": describe_machine(),
        **summary,
        "runs": runs,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    for rate, row in summary["medians"].items():
        for name, values in row.items():
            print(f"{rate:>5}/s {name:6}", *(f"{key} {value:,.1f}" for key, value in values.items()))


if __name__ == "__main__":
    main()
