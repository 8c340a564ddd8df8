"""Does virtual time tell what real time would have? Real runs of a 135M model against their simulations.

    python experiments/simulator_fidelity/measure.py            # everything, about ten minutes
    python experiments/simulator_fidelity/measure.py record calibration_burst ...   # single runs
    python experiments/simulator_fidelity/measure.py report     # from the runs recorded so far

Cost models learn from two runs (all requests at once, and Poisson arrivals), and never see the others: four
schedulers that serve the same requests. Gates: the held-out steps' mean error is at most 10%, the simulated
p50 and p90 of the end-to-end latency are within 10% below 85% of capacity, and whichever scheduler has the
lower mean latency by more than 3% in reality has it in the simulation.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RECORDS = ROOT / "outputs" / "simulator_fidelity"
MODEL = RECORDS / "model"
COST_MODELS = ("linear", "monotone")
RATE = 3.4
COMMON = [
    f"model={MODEL.relative_to(ROOT)}",
    "dtype=bfloat16",
    "engine.max_sequences=16",
    "engine.max_step_tokens=512",
    "engine.kv_bytes=256MiB",
    "workload=synthetic",
    "workload.prompt_mean=300",
    "workload.prompt_sigma=0.8",
    "workload.output_mean=70",
    "workload.output_sigma=0.8",
    "workload.output_cap=400",
]
CALIBRATION = {
    "calibration_burst": ["scheduler=fcfs", "workload.requests=64", "seed=11"],
    "calibration_poisson": [
        "scheduler=prefill_first",
        "workload.requests=64",
        "seed=12",
        "workload.arrivals=poisson",
        f"workload.rate={RATE}",
    ],
}
HELD_OUT = {
    f"held_out_{name}": [
        *(f"scheduler={name}", "workload.requests=64", "seed=13"),
        *("workload.arrivals=gamma", "workload.cv=2.0", f"workload.rate={RATE}"),
        *extra,
    ]
    for name, extra in {
        "fcfs": [],
        "sarathi": ["scheduler.chunk_tokens=128"],
        "sjf": ["predictor=oracle"],
        "static": [],
    }.items()
}
RUNS = CALIBRATION | HELD_OUT


def quire(*words: str) -> None:
    subprocess.run([sys.executable, str(ROOT / "run.py"), *words], check=True, cwd=ROOT)


def make_model() -> None:
    """A random checkpoint of the shape of a 135M Llama: steps take as long as with trained weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49152,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=None,
        bos_token_id=None,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(MODEL)


def record(names: list[str]) -> None:
    """Real runs, each in a process of its own, as cold as the others."""
    if not (MODEL / "config.json").is_file():
        make_model()
    for name in names:
        quire(*COMMON, *RUNS[name], f"hydra.run.dir={RECORDS / name}")


def e2e(directory: Path) -> dict[str, float]:
    """End-to-end seconds of each request of a recorded run."""
    lines = (directory / "requests.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {each["request_id"]: each["finish"] - each["arrival"] for each in records}


def step_error(cost_model: str, directory: Path) -> float:
    """Mean absolute relative error of the foretold durations of a run's steps."""
    from quire.jobs.calibration import durations, read_steps, shape_of
    from quire.registry import load_registry

    kind = load_registry().get("cost_model", cost_model)
    model = kind(config=kind.Config(path=str(HERE / f"{cost_model}.json")))
    steps = read_steps(directory)
    taken = np.array(durations(steps))
    told = np.array([model.seconds(shape_of(step)) for step in steps])
    return float(np.mean(np.abs(told / taken - 1.0)))


def spread(values: list[float]) -> dict[str, float]:
    p50, p90 = np.percentile(values, (50, 90))
    return {"mean": float(np.mean(values)), "p50": float(p50), "p90": float(p90)}


def capacity() -> float:
    """Requests a second when all are there at once."""
    return json.loads((RECORDS / "calibration_burst" / "summary.json").read_text())["requests_per_s"]


def simulate(cost_model: str) -> dict[str, Any]:
    """Calibrate on the calibration runs, then simulate each of the others."""
    from quire.jobs.calibration import read_steps

    path = HERE / f"{cost_model}.json"
    runs = [str(RECORDS / name) for name in CALIBRATION]
    quire("calibrate", *runs, "--cost-model", cost_model, "-o", str(path))
    found: dict[str, Any] = {}
    for name, overrides in HELD_OUT.items():
        target = RECORDS / f"{name}_{cost_model}"
        began = time.perf_counter()
        quire(
            *COMMON,
            *overrides,
            *("executor=simulated", f"cost_model={cost_model}", f"cost_model.path={path}"),
            f"hydra.run.dir={target}",
        )
        wall = time.perf_counter() - began
        real, simulated = e2e(RECORDS / name), e2e(target)
        assert real.keys() == simulated.keys(), f"{name}: not the same requests"
        one, other = spread(list(real.values())), spread(list(simulated.values()))
        found[name.removeprefix("held_out_")] = {
            "step_mape": step_error(cost_model, RECORDS / name),
            "steps": {"real": len(read_steps(RECORDS / name)), "simulated": len(read_steps(target))},
            "e2e_seconds": {"real": one, "simulated": other},
            "e2e_error": {key: other[key] / one[key] - 1.0 for key in one},
            "simulation_process_seconds": wall,
            "requests": {key: [real[key], simulated[key]] for key in sorted(real)},
        }
    return found


def disagreements(found: dict[str, Any]) -> list[str]:
    """Pairs of schedulers that differ by more than 3% in reality, and the other way round when simulated."""
    means = {name: row["e2e_seconds"] for name, row in found.items()}
    wrong = []
    for one, other in combinations(means, 2):
        real = means[one]["real"]["mean"] / means[other]["real"]["mean"] - 1.0
        simulated = means[one]["simulated"]["mean"] / means[other]["simulated"]["mean"] - 1.0
        if abs(real) > 0.03 and real * simulated <= 0:
            wrong.append(f"{one} against {other}: {real:+.1%} in reality, {simulated:+.1%} simulated")
    return wrong


def draw(results: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(COST_MODELS), figsize=(9, 4.2), sharex=True, sharey=True)
    for axis, cost_model in zip(axes, COST_MODELS, strict=True):
        for name, row in results[cost_model]["schedulers"].items():
            real, simulated = np.array(list(row["requests"].values())).T
            axis.scatter(real, simulated, s=9, label=name)
        limit = axis.get_xlim()[1]
        axis.plot([0, limit], [0, limit], color="grey", linewidth=0.8)
        axis.set(title=cost_model, xlabel="end to end, real run (s)")
    axes[0].set_ylabel("end to end, simulated (s)")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(HERE / "fidelity.png", dpi=120)


def report() -> None:
    from quire.jobs.provenance import command_line, commit_of, describe_machine

    results: dict[str, Any] = {
        "command": command_line("experiments/simulator_fidelity/measure.py"),
        "commit": commit_of(Path(__file__)),
        "python": platform.python_version(),
        "machine": describe_machine(),
        "overrides": {name: [*COMMON, *overrides] for name, overrides in RUNS.items()},
        "capacity_requests_per_s": capacity(),
        "load": RATE / capacity(),
    }
    for cost_model in COST_MODELS:
        found = simulate(cost_model)
        mape = max(row["step_mape"] for row in found.values())
        worst = max(abs(row["e2e_error"][key]) for row in found.values() for key in ("p50", "p90"))
        wrong = disagreements(found)
        results[cost_model] = {
            "gates": {
                "held_out_step_mape_at_most_0.10": [mape, mape <= 0.10],
                "e2e_p50_p90_error_at_most_0.10": [worst, worst <= 0.10],
                "ranking_preserved": [wrong, not wrong],
            },
            "schedulers": found,
        }
        print(f"{cost_model}: steps {mape:.1%}, E2E {worst:.1%}, ranking {'; '.join(wrong) or 'preserved'}")
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    draw(results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("all", "record", "report"), default="all")
    parser.add_argument("runs", nargs="*", choices=[[], *RUNS], default=[])
    arguments = parser.parse_args()
    if arguments.what in ("all", "record"):
        record(arguments.runs or list(RUNS))
    if arguments.what in ("all", "report"):
        report()


if __name__ == "__main__":
    main()
