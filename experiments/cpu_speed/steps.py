"""Milliseconds of quire's steps on a CPU: prefill and decode by batch, long contexts, and peak memory.

    python experiments/cpu_speed/steps.py

Each arm is a process of its own that drives the engine, and arms take turns; vLLM, tuned as its guide says,
is among them where install_peers.py put it. Long contexts also compare attention=paged with attention=sdpa.
quire's memory is held against weights x 1.15 + the KV asked for + 600 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from peers import DEFAULT_DIRECTORY, PEERS, Peer
from workload import SHAPES, make_checkpoint

from quire.jobs.provenance import command_line, commit_of, describe_machine

HERE = Path(__file__).parent
KV_MIB = 600
LONG_SEQUENCES = 8


@dataclass(frozen=True)
class Arm:
    model: str
    batches: tuple[int, ...]
    prompt: int
    kv_mib: int
    attention: str = "paged"
    warm_rounds: int = 1
    peer: Peer | None = None
    """Where vLLM is, for an arm of its own."""


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
    arms = {"135m": Arm("135m", (1, 4, 16), 256, KV_MIB)}
    if not quick:
        arms["0.6b"] = Arm("0.6b", (1, 4, 16), 256, KV_MIB)
    for context in (1024,) if quick else (4096, 8192):
        for attention in ("paged", "sdpa"):
            kv_mib = LONG_SEQUENCES * (context + 256) * 23040 // 2**20  # 23,040 bytes a token
            arms[f"135m, {LONG_SEQUENCES} sequences of {context}, {attention}"] = Arm(
                "135m", (LONG_SEQUENCES,), context, kv_mib, attention, warm_rounds=0
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
        times[batch] = {
            key: {"median": statistics.median(each), "min": min(each), "max": max(each)}
            for key, each in rounds.items()
        }
    summary = {"batches": times, "peak_rss_bytes": max(run["peak_rss_bytes"] for run in runs)}
    if arm.peer is not None:
        return summary | {"version": arm.peer.version()}
    return summary | {"peak_rss_bound_bytes": int(weights * 1.15) + arm.kv_mib * 2**20 + 600 * 10**6}


def ratios_to_peer(summaries: dict[str, dict]) -> dict[str, dict]:
    """quire's milliseconds in vLLM's: medians over medians, by arm and batch."""
    return {
        name: {
            batch: {key: times[key]["median"] / theirs[batch][key]["median"] for key in theirs[batch]}
            for batch, times in summary["batches"].items()
        }
        for name, summary in summaries.items()
        if (theirs := summaries.get(f"{name}, vLLM", {}).get("batches"))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="4 layers, contexts of 1024: to try the script")
    parser.add_argument(
        "--peers", type=Path, default=DEFAULT_DIRECTORY, help="where install_peers.py put them"
    )
    parser.add_argument("--out", type=Path, default=HERE / "steps.json")
    arguments = parser.parse_args()
    arms = make_arms(quick=arguments.quick, peers=arguments.peers)
    runs: dict[str, list[dict]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory)
        make_models(models, quick=arguments.quick)
        for repeat in range(arguments.repeats):
            for name, arm in arms.items():
                runs[name].append(run_arm(arm, models))
                print(f"{repeat + 1}/{arguments.repeats} {name}", flush=True)
        summaries = {name: summarise(arm, runs[name], models) for name, arm in arms.items()}
    report = {
        "command": command_line("experiments/cpu_speed/steps.py"),
        "commit": commit_of(Path(__file__)),
        "machine": describe_machine(),
        "arms": summaries,
        "ratios_to_vllm": ratios_to_peer(summaries),
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    for name, summary in summaries.items():
        bound = summary.get("peak_rss_bound_bytes")
        print(
            f"{name}: peak {summary['peak_rss_bytes'] / 1e6:.0f} MB"
            + (f", bound {bound / 1e6:.0f} MB" if bound is not None else "")
        )
        for batch, times in summary["batches"].items():
            prefill, decode = times["prefill_ms"], times["decode_ms"]
            print(
                f"  batch {batch}: prefill {prefill['median']:.0f} ms [{prefill['min']:.0f},"
                f" {prefill['max']:.0f}], decode step {decode['median']:.1f} ms [{decode['min']:.1f},"
                f" {decode['max']:.1f}]"
            )
    for name, batches in report["ratios_to_vllm"].items():
        for batch, ratio in batches.items():
            shown = ", ".join(f"{key.removesuffix('_ms')} {value:.2f}" for key, value in ratio.items())
            print(f"{name}, batch {batch}, in vLLM's times: {shown}")


if __name__ == "__main__":
    main()
