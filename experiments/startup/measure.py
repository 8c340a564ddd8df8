"""What starting costs: the help, the registry, and a run's first token.

    python experiments/startup/measure.py

Each command is a process of its own; they take turns. Seconds are wall time of the whole process.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from quire.jobs.provenance import command_line, commit_of, describe_machine

ROOT = Path(__file__).parents[2]
RUN = [sys.executable, str(ROOT / "run.py")]
COMMANDS = {
    "python, doing nothing": [sys.executable, "-c", ""],
    "import of the registry, all plugins loaded": [
        sys.executable,
        "-c",
        "from quire.registry import load_registry; load_registry().plugins()",
    ],
    "run.py --help": [*RUN, "--help"],
    "run.py task=generate, one token of the demo model": [
        *RUN,
        "task=generate",
        "task.prompt=Once",
        "task.max_tokens=1",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.json")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as directory:
        for repeat in range(arguments.repeats + 1):
            for name, command in COMMANDS.items():
                began = time.perf_counter()
                subprocess.run(command, cwd=directory, check=True, capture_output=True)
                if repeat:  # the first round warms the caches
                    seconds[name].append(time.perf_counter() - began)
    rows = {
        name: {"median_s": statistics.median(each), "min_s": min(each), "max_s": max(each)}
        for name, each in seconds.items()
    }
    report = {
        "command": command_line("experiments/startup/measure.py"),
        "commit": commit_of(Path(__file__)),
        "python": platform.python_version(),
        "machine": describe_machine(),
        "rows": rows,
        "seconds": seconds,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    for name, row in rows.items():
        print(f"{name}: median {row['median_s']:.2f} s [{row['min_s']:.2f}, {row['max_s']:.2f}]")


if __name__ == "__main__":
    main()
