"""From `-m` to `quire report` through the program, in virtual time; and what a kill on the way leaves."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distributions import write_distribution

RUN_PY = Path(__file__).parents[2] / "run.py"

FRAGILE = """
import os, signal
from dataclasses import dataclass
from pathlib import Path
from quire.interfaces import Scheduler

@dataclass
class FragileConfig:
    \"\"\"It has no options.\"\"\"

class Fragile(Scheduler):
    \"\"\"One sequence at a time. Kills its process at the 40th step while there is a file named `kill`.\"\"\"
    Config = FragileConfig

    def __init__(self, *, config):
        self.steps = 0

    def schedule(self, queues, step):
        for seq in queues.running:
            step.add(seq)
        if not queues.running:
            for seq in queues.waiting:
                step.add(seq)
                break

    def on_step(self, record):
        self.steps += 1
        if self.steps == 40 and Path("kill").exists():
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def program(tmp_path):
    """Runs `run.py` with these words in an empty directory."""
    site, place = tmp_path / "site", tmp_path / "place"
    place.mkdir()
    entries = {"quire.scheduler": {"fragile": "sweep_fragile:Fragile"}}
    write_distribution(site, "quire-fragile", entries, {"sweep_fragile": FRAGILE})
    names = ("num_tokens", "prefill_tokens", "decode_sequences", "samples", "decode_context")
    costs = dict.fromkeys((*names, "max_decode_context", "prefill_pairs"), 0.0)
    costs |= {"base_seconds": 0.01, "num_tokens": 0.001}
    (place / "costs.json").write_text(json.dumps({"cost_model": "linear", "parameters": costs}))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(RUN_PY), *words],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )

    run.place = place
    return run


def test_a_killed_sweep_is_reported_as_cut_resumed_and_compared(program):
    place = program.place
    (place / "kill").touch()
    killed = program(
        *("-m", "seed=1,2", "scheduler=fcfs,fragile", "hydra.sweep.dir=sweep"),
        *("executor=simulated", "cost_model.path=costs.json", "engine.kv_bytes=16MiB", "task.show=0"),
        *("workload=synthetic", "workload.requests=30", "workload.rate=20", "workload.prompt_mean=30"),
        *("workload.output_mean=10",),
    )
    assert killed.returncode == -9, killed.stderr
    sweep = place / "sweep"
    lines = (sweep / "1" / "requests.jsonl").read_text().splitlines()
    assert 0 < len(lines) < 30
    assert all(json.loads(line)["finish"] is not None for line in lines), "each of them is whole"

    cut = program("report", "sweep")
    assert cut.returncode == 0, cut.stderr
    assert f"note: 1: the run was cut after {len(lines)} requests" in cut.stdout, cut.stdout

    (place / "kill").unlink()
    resumed = program("resume", "sweep")
    assert resumed.returncode == 0, resumed.stderr
    states = [json.loads((sweep / str(cell) / "status.json").read_text())["state"] for cell in range(4)]
    assert states == ["done"] * 4

    whole = program("report", "sweep", "--warmup", "0")
    assert whole.returncode == 0, whole.stderr
    assert "fragile against fcfs: raises mean TTFT by " in whole.stdout, whole.stdout
    assert "(cut" not in whole.stdout
    with (sweep / "report" / "requests.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 120
    for cell in range(4):
        recorded = [
            json.loads(line) for line in (sweep / str(cell) / "requests.jsonl").read_text().splitlines()
        ]
        expected = sorted(each["finish"] - each["arrival"] for each in recorded)
        assert sorted(float(row["e2e_s"]) for row in rows if row["run"] == str(cell)) == pytest.approx(
            expected
        )
    assert (sweep / "report.html").stat().st_size > 10_000
    assert json.loads((sweep / "report" / "perfetto.json").read_text())["traceEvents"]
