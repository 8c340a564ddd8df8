"""Offline throughput on a CPU: quire and its peers on the same checkpoint and requests, interleaved.

    python experiments/cpu_speed/compare.py --rounds 3

Each arm is a process of its own, in its engine's own environment; a peer that is not installed is reported as
missing (install_peers.py installs them). Arms take turns, every other round in the opposite order, so that a
machine whose speed drifts treats them alike. Ratios are formed within a round. A run that was cut off goes on
when the same command is given again (journal.py).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from journal import open_journal
from peers import DEFAULT_DIRECTORY, PEERS, Peer
from results import plot, print_table, ratios
from workload import SHAPES, make_checkpoint, make_requests

from quire.registry import load_registry

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One engine in one configuration. `missing` says why it cannot run here, if it cannot."""

    script: str
    python: Path = Path(sys.executable)
    model: str = "model"
    """Which of the prepared models it reads."""
    environment: dict[str, str] = field(default_factory=dict[str, str])
    overrides: tuple[str, ...] = ()
    versions: dict[str, str | None] = field(default_factory=dict[str, str | None])
    missing: str | None = None


def arms(peers: Path) -> dict[str, Arm]:
    """All of them, by name; the first is what the others are compared with."""
    own = {name: version(name) for name in ("quire", "torch")}
    transformers = {name: version(name) for name in ("transformers", "torch")}
    vllm, llama = PEERS["vllm"](peers), PEERS["llama.cpp"](peers)
    preloads = vllm.preloads()
    no_preloads = None if preloads is not None else f"no tcmalloc or libiomp5 in {vllm.directory}"
    return {
        "quire bf16": Arm(script="arm_quire.py", versions=own),
        "quire w8a8": Arm(
            script="arm_quire.py",
            overrides=("quantization=w8a8",),
            versions=own,
            missing=lacks_quantization("w8a8"),
        ),
        "vLLM bf16, tuned": Arm(
            script="arm_vllm.py",
            python=vllm.python,
            environment=preloads or {},
            versions=versions(vllm, "torch"),
            missing=absent(vllm) or no_preloads,
        ),
        "vLLM bf16, plain": Arm(
            script="arm_vllm.py", python=vllm.python, versions=versions(vllm, "torch"), missing=absent(vllm)
        ),
        "llama.cpp q8_0, 16 sequences": Arm(
            script="arm_llama_cpp.py",
            python=llama.python,
            model="model.gguf",
            versions=versions(llama, "gguf"),
            missing=absent(llama),
        ),
        "transformers bf16, static batches of 16": Arm(script="arm_transformers.py", versions=transformers),
        "transformers bf16, continuous": Arm(script="arm_transformers_continuous.py", versions=transformers),
    }


def lacks_quantization(name: str) -> str | None:
    registry = load_registry()
    known = registry.available("quantization") if "quantization" in registry.kinds else {}
    return None if name in known else f"this quire has no quantization={name}"


def absent(peer: Peer) -> str | None:
    return None if peer.version() is not None else f"{peer.distribution} is not installed in {peer.directory}"


def versions(peer: Peer, *beside: str) -> dict[str, str | None]:
    return {name: peer.version(name) for name in (peer.distribution, *beside)}


def prepare(directory: Path, shape: str, count: int, chosen: dict[str, Arm]) -> tuple[int, int]:
    """Write the models and the requests that the arms read; returns the tokens in and out."""
    make_checkpoint(directory / "model", SHAPES[shape])
    for arm in chosen.values():
        if arm.model == "model.gguf" and arm.missing is None:
            words = [arm.python, HERE / "gguf_checkpoint.py", directory / "model", directory / arm.model]
            subprocess.run(list(map(str, words)), check=True)
    return make_requests(directory / "requests.json", count=count, vocab=SHAPES[shape].vocab)


def run_arm(name: str, arm: Arm, directory: Path) -> dict:
    """The line of JSON with which the arm ends."""
    started = time.time()
    done = subprocess.run(
        [
            *(str(arm.python), str(HERE / arm.script)),
            *("--model", str(directory / arm.model), "--requests", str(directory / "requests.json")),
            *("--started", repr(started), *arm.overrides),
        ],
        env=os.environ | arm.environment,
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{name} ended with status {done.returncode}:\n{done.stderr[-4000:]}")
    return json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="135m")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--peers", type=Path, default=DEFAULT_DIRECTORY, help="where install_peers.py put them"
    )
    parser.add_argument(
        "--arms", nargs="+", metavar="WORD", help="only arms whose name has one of these words"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results.json", help="a .png goes beside it")
    parser.add_argument(
        "--fresh", action="store_true", help="discard what a run that was cut off has measured"
    )
    arguments = parser.parse_args()
    words = [word.lower() for word in arguments.arms or [""]]
    chosen = {
        name: arm
        for name, arm in arms(arguments.peers).items()
        if any(word in name.lower() for word in words)
    }
    present = {name: arm for name, arm in chosen.items() if arm.missing is None}
    runs: dict[str, list[dict]] = {name: [] for name in present}
    missing = {name: arm.missing for name, arm in chosen.items() if arm.missing is not None}
    for name, why in missing.items():
        print(f"missing: {name}: {why}")
    versions = {name: arm.versions for name, arm in present.items()}
    journal = open_journal(parser, arguments, script=Path(__file__), versions=versions)
    with tempfile.TemporaryDirectory() as directory:
        tokens_in, tokens_out = prepare(Path(directory), arguments.shape, arguments.requests, chosen)

        def measure(name: str) -> dict:
            return run_arm(name, present[name], Path(directory))

        for turn, name, result in journal.turns(present, rounds=arguments.rounds, measure=measure):
            runs[name].append(result)
            speed = result["tokens_per_second"]
            print(f"round {turn} of {arguments.rounds}, {name}: {speed:.1f} tokens/s", flush=True)
    report = {
        **journal.provenance(Path(__file__)),
        "python": journal.head["python"],
        "shape": arguments.shape,
        "requests": arguments.requests,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "missing": missing,
        "versions": versions,
        "median_tokens_per_second": {
            name: statistics.median(each["tokens_per_second"] for each in made) for name, made in runs.items()
        },
        "ratios": {name: ratios(runs, name, "tokens_per_second") for name in runs},
        "runs": runs,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    journal.remove()
    print_table(report)
    plot(report, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
