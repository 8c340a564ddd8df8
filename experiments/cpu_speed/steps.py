"""Milliseconds of quire's steps on a CPU: prefill and decode by batch, long contexts, and peak memory.

    python experiments/cpu_speed/steps.py

Each arm is a process of its own that drives the engine, and arms take turns, every other round in the
opposite order; vLLM, tuned as its guide says, is among them where install_peers.py put it. Long contexts also
compare attention=paged with attention=sdpa. quire is given the KV that the largest batch fills and no more,
and its peak memory is held against weights x 1.15 + that KV + 600 MB. A run that was cut off goes on when the
same command is given again (journal.py).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import tables
from arm_steps import output_tokens
from journal import open_journal
from peers import DEFAULT_DIRECTORY, PEERS, Peer
from workload import SHAPES, make_checkpoint

HERE = Path(__file__).parent
LONG_SEQUENCES = 8
KV_TOKEN_BYTES = {"135m": 2 * 30 * 3 * 64 * 2, "0.6b": 2 * 28 * 8 * 128 * 2}
"""K and V of all layers in bf16."""


@dataclass(frozen=True)
class Arm:
    model: str
    batches: tuple[int, ...]
    prompt: int
    attention: str = "paged"
    warm_rounds: int = 1
    peer: Peer | None = None
    """Where vLLM is, for an arm of its own."""

    @property
    def kv_mib(self) -> int:
        """What the largest batch fills: prompts, and what every request generates (see arm_steps.py)."""
        tokens = max(batch * (self.prompt + output_tokens(batch, self.prompt) + 96) for batch in self.batches)
        return -(-tokens * KV_TOKEN_BYTES[self.model] // 2**20)


def make_models(directory: Path, *, quick: bool) -> None:
    """Random bf16 checkpoints with tied embeddings: a Llama of 135M, and the shape of Qwen3's 0.6B."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    llama = SHAPES["135m"]
    make_checkpoint(directory / "135m", replace(llama, layers=4) if quick else llama, max_tokens=16384)
    if quick:
        return
    torch.manual_seed(0)
    config = Qwen3Config(
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=151936,
        max_position_embeddings=16384,
        tie_word_embeddings=True,
        eos_token_id=None,
        bos_token_id=None,
        pad_token_id=0,
    )
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(directory / "0.6b")


def make_arms(*, quick: bool, peers: Path) -> dict[str, Arm]:
    """By name, in the order in which they take turns. An arm of vLLM is called as quire's, and ", vLLM"."""
    arms = {"135m": Arm("135m", (1, 4, 16), 256)}
    if not quick:
        arms["0.6b"] = Arm("0.6b", (1, 4, 16), 256)
    for context in (1024,) if quick else (4096, 8192):
        for attention in ("paged", "sdpa"):
            arms[f"135m, {LONG_SEQUENCES} sequences of {context}, {attention}"] = Arm(
                "135m", (LONG_SEQUENCES,), context, attention, warm_rounds=0
            )
    vllm = PEERS["vllm"](peers)
    if vllm.version() is None or vllm.preloads() is None:
        print(f"missing: vLLM: not installed, or without what is to be preloaded, in {vllm.directory}")
        return arms
    return {
        f"{name}{peer}": arm if not peer else replace(arm, peer=vllm)
        for name, arm in arms.items()
        for peer in ("", ", vLLM")
        if not peer or arm.attention == "paged"
    }


def run_peer(arm: Arm, models: Path) -> dict:
    assert arm.peer is not None
    command = [
        str(arm.peer.python),
        str(HERE / "arm_vllm_steps.py"),
        f"--model={models / arm.model}",
        f"--prompt={arm.prompt}",
        f"--warm-rounds={arm.warm_rounds}",
        "--batches",
        *map(str, arm.batches),
    ]
    environment = os.environ | (arm.peer.preloads() or {})
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=models)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{")))


def run_arm(arm: Arm, models: Path) -> dict:
    if arm.peer is not None:
        return run_peer(arm, models)
    command = [
        sys.executable,
        str(HERE / "arm_steps.py"),
        f"--model={models / arm.model}",
        f"--prompt={arm.prompt}",
        f"--warm-rounds={arm.warm_rounds}",
        "--batches",
        *map(str, arm.batches),
        "--",
        f"attention={arm.attention}",
        f"engine.kv_bytes={arm.kv_mib}MiB",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def summarise(arm: Arm, runs: list[dict], models: Path) -> dict:
    """Median and spread of every time over all rounds of all runs; the largest peak against its bound."""
    weights = (models / arm.model / "model.safetensors").stat().st_size
    times = {}
    for batch in map(str, arm.batches):
        rounds = {
            key: [value for run in runs for value in run["batches"][batch][key]]
            for key in runs[0]["batches"][batch]
        }
        times[batch] = {key: median_and_range(each) for key, each in rounds.items()}
    summary = {"batches": times, "peak_rss_bytes": max(run["peak_rss_bytes"] for run in runs)}
    if arm.peer is not None:
        return summary | {"version": arm.peer.version()}
    return summary | {"peak_rss_bound_bytes": int(weights * 1.15) + arm.kv_mib * 2**20 + 600 * 10**6}


def ratios(runs: dict[str, list[dict]], other: Callable[[str], str]) -> dict[str, dict]:
    """Milliseconds of an arm in those of the `other` one that its name leads to, where both ran: by arm and
    batch, the median, least and most of the rounds, in each of which the two are divided.
    """
    return {
        name: {
            batch: {
                key: median_and_range(
                    mine["batches"][batch][key][0] / theirs["batches"][batch][key][0]
                    for mine, theirs in zip(made, runs[other(name)], strict=True)
                )
                for key in ("prefill_ms", "decode_ms")
            }
            for batch in made[0]["batches"]
        }
        for name, made in runs.items()
        if other(name) != name and other(name) in runs
    }


def median_and_range(values: Iterable[float]) -> dict[str, float]:
    each = list(values)
    return {"median": statistics.median(each), "min": min(each), "max": max(each)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="4 layers, contexts of 1024: to try the script")
    parser.add_argument(
        "--peers", type=Path, default=DEFAULT_DIRECTORY, help="where install_peers.py put them"
    )
    parser.add_argument(
        "--arms", nargs="+", metavar="WORD", default=[""], help="only arms whose name has one of these words"
    )
    parser.add_argument("--out", type=Path, default=HERE / "steps.json")
    parser.add_argument(
        "--fresh", action="store_true", help="discard what a run that was cut off has measured"
    )
    arguments = parser.parse_args()
    arms = {
        name: arm
        for name, arm in make_arms(quick=arguments.quick, peers=arguments.peers).items()
        if any(word in name for word in arguments.arms)
    }
    versions = {name: version(name) for name in ("quire", "torch")}
    peers = {name: arm.peer.version() for name, arm in arms.items() if arm.peer is not None}
    journal = open_journal(parser, arguments, script=Path(__file__), versions=versions | peers)
    runs: dict[str, list[dict]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory)
        make_models(models, quick=arguments.quick)

        def measure(name: str) -> dict:
            return run_arm(arms[name], models)

        for repeat, name, result in journal.turns(arms, rounds=arguments.repeats, measure=measure):
            runs[name].append(result)
            print(f"{repeat}/{arguments.repeats} {name}", flush=True)
        summaries = {name: summarise(arm, runs[name], models) for name, arm in arms.items()}
    report = {
        **journal.provenance(Path(__file__)),
        "rounds": arguments.repeats,
        "versions": versions,
        "arms": summaries,
        "ratios_to_vllm": ratios(runs, lambda name: f"{name}, vLLM"),
        "ratios_to_sdpa": ratios(runs, lambda name: name.replace("paged", "sdpa")),
        "runs": runs,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    journal.remove()
    print(tables.steps(report))


if __name__ == "__main__":
    main()
