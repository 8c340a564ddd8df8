"""Does virtual time tell what real time would have? Real runs of a 135M model against their simulations.

    python experiments/simulator_fidelity/measure.py             # everything, about fifty minutes
    python experiments/simulator_fidelity/measure.py record --only 0 ...   # of the rounds, some
    python experiments/simulator_fidelity/measure.py report      # from the rounds recorded so far

Every round is four schedulers at two loads and three runs for calibration, which take turns step by step, so
that what drifts on the machine drifts for all of them; a step takes the median of three measurements. Cost
models learn from the calibration runs of a round and foretell its other runs, which they never see. Each
round has requests of its own, the same for all schedulers. README.md has the gates and the rule that decides
which schedulers differ.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RECORDS = ROOT / "outputs" / "simulator_fidelity"
MODEL = RECORDS / "model"
COST_MODELS = ("linear", "monotone")
ROUNDS = 3
REQUESTS = 48
HELD_OUT_REQUESTS = {"moderate": 100, "heavy": REQUESTS}
"""Where there are few, two batches of `static` more or less move the median by a third."""
RATES = {"moderate": 1.6, "heavy": 12.0}
"""Requests a second: below 85% of what each scheduler can serve, and far above it."""
COMPARED = ("e2e_mean", "ttft_mean", "itl_p99")
"""What schedulers are ranked by."""
COMMON = [  # one thread: two that wait for each other stand still together whenever anything else runs
    f"model={MODEL.relative_to(ROOT)}",
    "dtype=bfloat16",
    "engine.threads=1",
    "engine.max_sequences=8",
    "engine.max_step_tokens=256",
    "engine.kv_bytes=256MiB",
    "engine.overlap=false",  # so that no step is under way when a run's turn is over
    "task.show=0",
    "workload=synthetic",
    "workload.prompt_mean=200",
    "workload.prompt_sigma=0.8",
    "workload.output_mean=50",
    "workload.output_sigma=0.8",
    "workload.output_cap=250",
]
SCHEDULERS = {
    "fcfs": ["scheduler=fcfs"],
    "sarathi": ["scheduler=sarathi", "scheduler.chunk_tokens=64"],
    "sjf": ["scheduler=sjf", "predictor=oracle"],
    "static": ["scheduler=static"],
}
CALIBRATION = {
    name: [*own, f"workload.requests={REQUESTS}"]
    for name, own in {
        "calibration_burst": ["scheduler=fcfs", "seed=11"],
        "calibration_chunks": ["scheduler=sarathi", "scheduler.chunk_tokens=96", "seed=10"],
        "calibration_poisson": [
            *("scheduler=prefill_first", "seed=12"),
            *("workload.arrivals=poisson", f"workload.rate={RATES['moderate']}"),
        ],
    }.items()
}
HELD_OUT = {
    f"held_out_{load}_{name}": [
        *(*scheduler, f"workload.requests={HELD_OUT_REQUESTS[load]}"),
        *("workload.arrivals=gamma", "workload.cv=1.5", f"workload.rate={rate}"),
    ]
    for name, scheduler in SCHEDULERS.items()
    for load, rate in RATES.items()
}
FIRST_SEED = 13
"""Of the requests of the first round's held-out runs; each round has the next."""
REAL = ["executor=repeated"]
"""What real runs have and simulated ones have not: see turns.py."""


def quire(*words: str) -> None:
    subprocess.run([sys.executable, str(ROOT / "run.py"), *words], check=True, cwd=ROOT)


def make_model() -> None:
    """A random checkpoint of the shape of a 135M Llama: steps take as long as with trained weights."""
    sys.path.append(str(HERE.parent / "cpu_speed"))
    from workload import SHAPES, make_checkpoint

    make_checkpoint(MODEL, SHAPES["135m"])


def runs_of(number: int) -> dict[str, list[str]]:
    """A round's runs, each with what sets it apart."""
    seeded = {name: [*own, f"seed={FIRST_SEED + number}"] for name, own in HELD_OUT.items()}
    return CALIBRATION | seeded


def record(rounds: Iterable[int]) -> None:
    """Real runs, those of a round in turn."""
    import turns

    if not (MODEL / "config.json").is_file():
        make_model()
    os.chdir(ROOT)  # the model's path in the overrides is from there
    for number in rounds:
        runs = runs_of(number)
        turns.record({RECORDS / str(number) / name: [*COMMON, *own, *REAL] for name, own in runs.items()})
        print(f"round {number} is recorded", flush=True)


def recorded_rounds() -> list[Path]:
    """The rounds that have all their runs, recorded as they are described above."""
    rounds = [RECORDS / str(number) for number in range(ROUNDS)]
    return [
        each
        for each in rounds
        if all(is_recorded(each / name, own) for name, own in runs_of(int(each.name)).items())
    ]


def is_recorded(directory: Path, own: list[str]) -> bool:
    if not (directory / "measured.json").is_file():
        return False
    return json.loads((directory / "config.json").read_text())["overrides"] == [*COMMON, *own, *REAL]


def lines(directory: Path) -> list[dict[str, Any]]:
    """Requests of a recorded run, in order of arrival."""
    found = [json.loads(line) for line in (directory / "requests.jsonl").read_text().splitlines()]
    return sorted(found, key=lambda each: each["arrival"])


def e2e(directory: Path) -> np.ndarray:
    """End-to-end seconds of each request of a recorded run, in order of arrival."""
    return np.array([each["finish"] - each["arrival"] for each in lines(directory)])


def compared(directory: Path) -> dict[str, float]:
    """What schedulers are ranked by, of one run."""
    summary = json.loads((directory / "summary.json").read_text())
    return {key: summary[f"{key.partition('_')[0]}_s"][key.partition("_")[2]] for key in COMPARED}


def step_errors(cost_model: str, path: Path, directory: Path) -> np.ndarray:
    """Relative errors of the durations that the calibration in `path` foretells of a run's steps."""
    from quire.jobs.calibration import durations, read_steps, shape_of
    from quire.registry import load_registry

    kind = load_registry().get("cost_model", cost_model)
    model = kind(config=kind.Config(path=str(path)))
    steps = read_steps(directory)
    told = np.array([model.seconds(shape_of(step)) for step in steps])
    return told / np.array(durations(steps)) - 1.0


def spread(values: np.ndarray) -> dict[str, float]:
    p50, p90 = np.percentile(values, (50, 90))
    return {"mean": float(values.mean()), "p50": float(p50), "p90": float(p90)}


def capacity(scheduler: str, rounds: list[Path]) -> float:
    """Requests a second of a scheduler that always has some."""
    found = [
        json.loads((each / f"held_out_heavy_{scheduler}" / "summary.json").read_text()) for each in rounds
    ]
    return float(np.mean([each["requests_per_s"] for each in found]))


def noise(recorded: Path) -> float:
    """How far a measurement of a step lies from the median of the step's three, in relation: the mean."""
    names = (*CALIBRATION, *HELD_OUT)
    measured = [json.loads((recorded / name / "measured.json").read_text()) for name in names]
    seconds_NM = np.concatenate([np.array(each) for each in measured])
    return float(np.abs(seconds_NM / np.median(seconds_NM, axis=1, keepdims=True) - 1.0).mean())


def calibrate(cost_model: str, rounds: list[Path], path: Path) -> None:
    runs = [str((each / name).relative_to(ROOT)) for each in rounds for name in CALIBRATION]
    quire("calibrate", *runs, "--cost-model", cost_model, "-o", str(path))


def simulate(cost_model: str, rounds: list[Path]) -> dict[str, Any]:
    """Of each run that was held out, what the calibration of its own round makes of it, round by round."""
    calibrate(cost_model, rounds, HERE / f"{cost_model}.json")  # of all rounds, for other studies
    for each in rounds:
        calibrate(cost_model, [each], each / f"{cost_model}.json")
    return {name.removeprefix("held_out_"): foretold(cost_model, rounds, name) for name in HELD_OUT}


def foretold(cost_model: str, rounds: list[Path], name: str) -> dict[str, Any]:
    """One run of every round beside its simulation. Of step errors the median over the rounds counts: one run
    in which the machine stood still is outvoted. Latencies are those of the requests of all rounds together.
    """
    rows, real, simulated = [], list[np.ndarray](), list[np.ndarray]()
    for each in rounds:
        path, target = each / f"{cost_model}.json", each / cost_model / name
        words = ("executor=simulated", f"cost_model={cost_model}", f"cost_model.path={path}")
        quire(*COMMON, *runs_of(int(each.name))[name], *words, f"hydra.run.dir={target}")
        errors = step_errors(cost_model, path, each / name)
        real.append(e2e(each / name))
        simulated.append(e2e(target))
        one, other = spread(real[-1]), spread(simulated[-1])
        rows.append(
            {
                "step_mape": float(np.abs(errors).mean()),
                "step_bias": float(errors.mean()),
                "e2e_seconds": {"real": one, "simulated": other},
                "e2e_error": {key: other[key] / one[key] - 1.0 for key in one},
                "compared": {"real": compared(each / name), "simulated": compared(target)},
            }
        )
    real_N, simulated_N = np.concatenate(real), np.concatenate(simulated)
    one, other = spread(real_N), spread(simulated_N)
    return {
        "step_mape": median(row["step_mape"] for row in rows),
        "e2e_seconds": {"real": one, "simulated": other},
        "e2e_error": {key: other[key] / one[key] - 1.0 for key in one},
        "rounds": rows,
        "requests": {"real": real_N.tolist(), "simulated": simulated_N.tolist()},
    }


def rankings(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Each pair of schedulers at each load, by each measure: how much they differ in reality and simulated.

    Differences are logarithms of ratios, within a round. A pair is told apart if the mean difference over the
    rounds exceeds its range over the rounds; only then has the simulation an order to preserve.
    """
    rows = []
    for load in RATES:
        for one, other in combinations(SCHEDULERS, 2):
            a, b = (found[f"{load}_{name}"]["rounds"] for name in (one, other))
            for key in COMPARED:
                ratios = {
                    which: [
                        y["compared"][which][key] / x["compared"][which][key]
                        for x, y in zip(a, b, strict=True)
                    ]
                    for which in ("real", "simulated")
                }
                real_R, simulated = np.log(ratios["real"]), float(np.log(ratios["simulated"]).mean())
                mean, noise = float(real_R.mean()), float(np.ptp(real_R))
                apart = len(real_R) > 1 and abs(mean) > noise
                rows.append(
                    {
                        "load": load,
                        "pair": [one, other],
                        "measure": key,
                        "real": mean,
                        "real_range": noise,
                        "simulated": simulated,
                        "told_apart": apart,
                        "preserved": mean * simulated > 0 if apart else None,
                    }
                )
    return rows


def gates(found: dict[str, Any], ranked: list[dict[str, Any]]) -> dict[str, Any]:
    """What was to hold, what was found, and whether that is enough."""
    mape = max(row["step_mape"] for row in found.values())
    moderate = [row for name, row in found.items() if name.startswith("moderate")]
    worst = max(abs(row["e2e_error"][key]) for row in moderate for key in ("p50", "p90"))
    apart = [row for row in ranked if row["told_apart"]]
    wrong = [
        f"{row['load']}, {' and '.join(row['pair'])}: {row['measure']}"
        for row in apart
        if not row["preserved"]
    ]
    return {
        "held_out_step_mape_at_most_0.10": {"found": mape, "holds": mape <= 0.10},
        "e2e_p50_p90_error_at_most_0.10": {"found": worst, "holds": worst <= 0.10},
        "order_preserved": {
            "told_apart": len(apart),
            "of": len(ranked),
            "reversed": wrong,
            "holds": bool(apart) and not wrong,
        },
    }


def draw(results: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(RATES), figsize=(9, 4.2))
    for axis, load in zip(axes, RATES, strict=True):
        for name in SCHEDULERS:
            requests = results["monotone"]["runs"][f"{load}_{name}"]["requests"]
            axis.scatter(requests["real"], requests["simulated"], s=9, label=name)
        limit = axis.get_xlim()[1]
        axis.plot([0, limit], [0, limit], color="grey", linewidth=0.8)
        axis.set(title=f"{load} load", xlabel="end to end, real (s)")
    axes[0].set_ylabel("end to end, simulated, cost_model=monotone (s)")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(HERE / "fidelity.png", dpi=120)


def report() -> None:
    from quire.jobs.provenance import command_line, commit_of, describe_machine

    rounds = recorded_rounds()
    if not rounds:
        sys.exit("no round has all its runs; record them first")
    served = {name: capacity(name, rounds) for name in SCHEDULERS}
    results: dict[str, Any] = {
        "command": command_line("experiments/simulator_fidelity/measure.py"),
        "commit": commit_of(Path(__file__)),
        "python": platform.python_version(),
        "machine": describe_machine(),
        "overrides": {
            each.name: {name: [*COMMON, *own, *REAL] for name, own in runs_of(int(each.name)).items()}
            for each in rounds
        },
        "rounds": len(rounds),
        "measurement_noise": {str(each.name): noise(each) for each in rounds},
        "capacity_requests_per_s": served,
        "load": {load: {name: rate / served[name] for name in SCHEDULERS} for load, rate in RATES.items()},
    }
    for cost_model in COST_MODELS:
        found = simulate(cost_model, rounds)
        ranked = rankings(found)
        results[cost_model] = {"gates": gates(found, ranked), "ranking": ranked, "runs": found}
        print(f"{cost_model}: {json.dumps(results[cost_model]['gates'], indent=2)}")
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    draw(results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("all", "record", "report"), default="all")
    rounds = range(ROUNDS)
    parser.add_argument("--only", nargs="+", type=int, choices=rounds, metavar="ROUND", default=rounds)
    arguments = parser.parse_args()
    if arguments.what in ("all", "record"):
        record(arguments.only)
    if arguments.what in ("all", "report"):
        report()


if __name__ == "__main__":
    main()
