"""How fast is virtual time, and does its memory stay bounded? Simulated runs of a 135M model's serving.

    python experiments/simulator_speed/measure.py            # both, about fifteen minutes
    python experiments/simulator_speed/measure.py speed      # about four minutes
    python experiments/simulator_speed/measure.py memory --requests 100000

Speed is the virtual duration of a whole benchmark, its files written, over the wall time of its command, the
start of Python included. Memory is what the process holds while its requests end. The cost model is that of
experiments/simulator_fidelity, learned from real runs of a model of this shape.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RECORDS = ROOT / "outputs" / "simulator_speed"
MODEL = RECORDS / "model"
COST_MODEL = ROOT / "experiments" / "simulator_fidelity" / "linear.json"
REQUIRED_SPEED = 200.0
ALLOWED_GROWTH = 1.05
"""Memory when the last request ends, over that when a quarter have ended."""
SAMPLE_SECONDS = 1.0
COMMON = [
    f"model={MODEL.relative_to(ROOT)}",
    "dtype=bfloat16",
    "executor=simulated",
    f"cost_model.path={COST_MODEL.relative_to(ROOT)}",
    "engine.max_step_tokens=256",
    "engine.kv_bytes=256MiB",
    "scheduler=fcfs",
    "task.show=0",
    "workload=synthetic",
    "seed=13",
]
LENGTHS = [
    *("workload.prompt_mean=200", "workload.prompt_sigma=0.8"),
    *("workload.output_mean=50", "workload.output_sigma=0.8", "workload.output_cap=250"),
]
SPEED = {
    "Poisson arrivals at 1.9 requests/s, at most 8 at once": [
        *("engine.max_sequences=8", *LENGTHS, "workload.requests=20000"),
        *("workload.arrivals=poisson", "workload.rate=1.9"),
    ],
    "8 users without a pause": [
        *("engine.max_sequences=8", *LENGTHS, "workload.requests=10000"),
        *("workload.arrivals=closed", "workload.concurrency=8"),
    ],
    "64 users without a pause": [
        *("engine.max_sequences=64", *LENGTHS, "workload.requests=10000"),
        *("workload.arrivals=closed", "workload.concurrency=64"),
    ],
}
"""The first, about half of what the machine can serve, has to be fast enough."""
MEMORY = [
    *("engine.max_sequences=64", "workload.prompt_mean=64", "workload.output_mean=16"),
    *("workload.arrivals=closed", "workload.concurrency=64"),
]


def make_model() -> None:
    """The shape of a 135M Llama. A simulation reads no weights, so there are none."""
    sys.path.append(str(HERE.parent / "cpu_speed"))
    from workload import SHAPES

    shape = SHAPES["135m"]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "vocab_size": shape.vocab,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "eos_token_id": None,
        "bos_token_id": None,
        "torch_dtype": "bfloat16",
    }
    MODEL.mkdir(parents=True, exist_ok=True)
    (MODEL / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def command(overrides: list[str], directory: Path) -> list[str]:
    return [sys.executable, str(ROOT / "run.py"), *COMMON, *overrides, f"hydra.run.dir={directory}"]


def speed(rounds: int) -> list[dict[str, Any]]:
    """Each workload so many times, in turns."""
    rows: list[dict[str, Any]] = [
        {"workload": name, "overrides": [*COMMON, *overrides], "rounds": []}
        for name, overrides in SPEED.items()
    ]
    for number in range(rounds):
        for place, (row, overrides) in enumerate(zip(rows, SPEED.values(), strict=True)):
            directory = RECORDS / f"speed_{place}_{number}"
            began = time.perf_counter()
            subprocess.run(command(overrides, directory), check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
            wall = time.perf_counter() - began
            summary = json.loads((directory / "summary.json").read_text())
            row["rounds"].append(
                {
                    "process_seconds": wall,
                    "virtual_seconds": summary["duration_s"],
                    "requests": summary["requests"],
                    "output_tokens": summary["output_tokens"],
                    "steps": summary["steps"],
                    "times_real_time": summary["duration_s"] / wall,
                }
            )
            print(f"{row['workload']}: {summary['duration_s'] / wall:.0f} times real time", flush=True)
    for row in rows:
        row["times_real_time"] = float(np.median([each["times_real_time"] for each in row["rounds"]]))
    return rows


def memory(requests: int) -> dict[str, Any]:
    """One run; once a second, how many requests have ended and what the process holds."""
    directory = RECORDS / "memory"
    (directory / "requests.jsonl").unlink(missing_ok=True)
    overrides = [*MEMORY, f"workload.requests={requests}"]
    began = time.perf_counter()
    process = subprocess.Popen(command(overrides, directory), cwd=ROOT, stdout=subprocess.DEVNULL)
    curve: list[tuple[float, int, int]] = []
    ended, at = 0, 0
    while process.poll() is None:
        time.sleep(SAMPLE_SECONDS)
        ended, at = count_lines(directory / "requests.jsonl", ended, at)
        resident = resident_bytes(process.pid)
        if ended and resident:
            curve.append((time.perf_counter() - began, ended, resident))
    wall = time.perf_counter() - began
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "run.py")
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["requests"] == requests, "every request completes"
    quarter = next(resident for _, done, resident in curve if done >= requests / 4)
    print(f"{requests} requests: {curve[-1][2] / 2**20:.0f} MiB at the end, {wall:.0f} s", flush=True)
    return {
        "overrides": [*COMMON, *overrides],
        "requests": requests,
        "process_seconds": wall,
        "virtual_seconds": summary["duration_s"],
        "steps": summary["steps"],
        "resident_bytes_at_a_quarter": quarter,
        "resident_bytes_at_the_end": curve[-1][2],
        "growth": curve[-1][2] / quarter,
        "curve": {"seconds, requests ended, resident bytes": curve[:: max(1, len(curve) // 300)]},
    }


def count_lines(path: Path, counted: int, at: int) -> tuple[int, int]:
    """Lines of a file that grows, and where reading goes on; `counted` lines end before `at`."""
    if not path.exists():
        return counted, at
    with path.open("rb") as file:
        file.seek(at)
        while piece := file.read(2**20):
            counted += piece.count(b"\n")
            at += len(piece)
    return counted, at


def resident_bytes(pid: int) -> int:
    """0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)


def gates(results: dict[str, Any]) -> dict[str, Any]:
    """What was to hold, what was found, and whether that is enough; of what has been measured."""
    found: dict[str, Any] = {}
    if "speed" in results:
        served = results["speed"]["workloads"][0]["times_real_time"]
        found["times_real_time_at_least_200"] = {"found": served, "holds": served >= REQUIRED_SPEED}
    if "memory" in results:
        growth, requests = results["memory"]["growth"], results["memory"]["requests"]
        holds = growth <= ALLOWED_GROWTH and requests >= 1_000_000
        found["a_million_requests_in_bounded_memory"] = {"found": [requests, growth], "holds": holds}
    return found


def draw(curve: list[tuple[float, int, int]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    _, ended, resident = np.array(curve).T
    figure, axis = pyplot.subplots(figsize=(7, 3.2))
    axis.plot(ended, resident / 2**20)
    axis.set(xlabel="requests ended", ylabel="memory of the process (MiB)", ylim=(0, None))
    figure.tight_layout()
    figure.savefig(HERE / "memory.png", dpi=120)


def main() -> None:
    from quire.jobs.provenance import command_line, commit_of, describe_machine

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("all", "speed", "memory"), default="all")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the run whose memory is watched")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of the runs whose speed counts")
    arguments = parser.parse_args()
    make_model()
    path = HERE / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    origin = {
        "command": command_line("experiments/simulator_speed/measure.py"),
        "commit": commit_of(Path(__file__)),
        "python": platform.python_version(),
        "machine": describe_machine(),
    }
    if arguments.what in ("all", "speed"):
        results["speed"] = {**origin, "workloads": speed(arguments.rounds)}
    if arguments.what in ("all", "memory"):
        results["memory"] = {**origin, **memory(arguments.requests)}
        draw(results["memory"]["curve"]["seconds, requests ended, resident bytes"])
    results["gates"] = gates(results)
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results["gates"], indent=2))


if __name__ == "__main__":
    main()
