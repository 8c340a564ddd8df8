"""Offline throughput on a CPU: quire and its peers on the same checkpoint and requests, interleaved.

    python experiments/cpu_speed/compare.py --repeats 3

Each arm is a process of its own. Arms take turns, so that a machine whose speed drifts treats them alike.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from workload import SHAPES, make_checkpoint, make_requests

from quire.jobs.provenance import commit_of, describe_machine

HERE = Path(__file__).parent
ARMS = {
    "quire": [str(HERE / "arm_quire.py")],
    "transformers generate, static batches of 16": [str(HERE / "arm_transformers.py")],
}


def run_arm(command: list[str], model: Path, requests: Path) -> dict:
    done = subprocess.run(
        [sys.executable, *command, "--model", str(model), "--requests", str(requests)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="135m")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    runs: dict[str, list[dict]] = {name: [] for name in ARMS}
    with tempfile.TemporaryDirectory() as directory:
        model, requests = Path(directory) / "model", Path(directory) / "requests.json"
        make_checkpoint(model, shape)
        tokens_in, tokens_out = make_requests(requests, count=arguments.requests, vocab=shape.vocab)
        for repeat in range(arguments.repeats):
            for name, command in ARMS.items():
                result = run_arm(command, model, requests)
                assert result["output_tokens"] == tokens_out, f"{name} made {result['output_tokens']} tokens"
                runs[name].append(result)
                print(f"{repeat + 1}/{arguments.repeats} {name}: {result['tokens_per_second']:.1f} tokens/s")
    medians = {name: statistics.median(r["tokens_per_second"] for r in each) for name, each in runs.items()}
    report = {
        "command": "python " + " ".join(["experiments/cpu_speed/compare.py", *sys.argv[1:]]),
        "commit": commit_of(Path(__file__)),
        "machine": describe_machine(),
        "versions": {name: version(name) for name in ("torch", "transformers", "quire")}
        | {"python": platform.python_version()},
        "shape": arguments.shape,
        "requests": arguments.requests,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "median_tokens_per_second": medians,
        "ratio_of_quire": {name: medians["quire"] / each for name, each in medians.items()},
        "runs": runs,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    for name, each in runs.items():
        speeds = [r["tokens_per_second"] for r in each]
        print(
            f"{name}: median {medians[name]:.1f} [{min(speeds):.1f}, {max(speeds):.1f}] tokens/s,"
            f" quire is {medians['quire'] / medians[name]:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
