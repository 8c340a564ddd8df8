"""Sweeps that failed, were killed or are still running, and `quire resume`, through the real program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distributions import write_distribution

RUN_PY = Path(__file__).parents[2] / "run.py"

TASK = '''
import time
from dataclasses import dataclass
from pathlib import Path
from quire.errors import UserError
from quire.interfaces import Task

@dataclass
class CountConfig:
    """A task that counts its runs."""
    mood: str = "good"
    note: str = ""

class Count(Task):
    """Fails while there is a file named `fail`, sleeps while there is one named `sleep`, in bad mood."""
    Config = CountConfig
    def __init__(self, *, config):
        self.config = config
    def run(self, run):
        with open(run.directory / "runs.txt", "a") as file:
            file.write(f"{self.config.mood} {run.config.seed} {self.config.note}\\n")
        if self.config.mood == "bad" and Path("fail").exists():
            raise UserError("task.mood=bad: fails today")
        while self.config.mood == "bad" and Path("sleep").exists():
            time.sleep(0.05)
'''


class Place:
    """An empty directory with the program in it."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "it's here"
        self.path.mkdir()
        self._site = tmp_path / "site"
        entries = {"quire.task": {"count": "cli_count:Count"}}
        write_distribution(self._site, "quire-count", entries, {"cli_count": TASK})

    def start(self, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(RUN_PY), *arguments],
            cwd=cwd or self.path,
            env={**os.environ, "PYTHONPATH": str(self._site)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, cwd=cwd)
        out, err = process.communicate(timeout=150)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def switch(self, name: str, on: bool) -> None:
        (self.path / name).touch() if on else (self.path / name).unlink()

    @property
    def sweep(self) -> Path:
        (found,) = self.path.glob("multirun/*/*")
        return found

    def runs(self) -> dict[str, list[str]]:
        """What each cell's directory says that ran in it."""
        files = sorted(self.sweep.glob("*/runs.txt"))
        return {file.parent.name: file.read_text().splitlines() for file in files}

    def states(self) -> list[str]:
        files = sorted(self.sweep.glob("*/status.json"))
        return [json.loads(file.read_text())["state"] for file in files]


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


def test_only_what_failed_runs_again_with_the_very_same_overrides(place):
    place.switch("fail", on=True)
    failed = place.run("-m", "task=count", "seed=1,2", "task.mood=good,bad", "task.note='a b'")
    assert failed.returncode == 2
    assert place.states() == ["done", "failed", "done", "failed"]
    status = json.loads((place.sweep / "1" / "status.json").read_text())
    assert status["error"] == "UserError: task.mood=bad: fails today"
    assert status["overrides"] == ["task=count", "seed=1", "task.mood=bad", "task.note='a b'"]

    listed = place.run("resume", str(place.sweep), "--dry-run", cwd=place.path.parent)
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.splitlines()[-1].endswith(": 2 done, 2 failed; 2 to run")
    assert listed.stdout.splitlines()[1].endswith("(UserError: task.mood=bad: fails today)")

    assert place.run("resume", str(place.sweep)).returncode == 2, "what made them fail is still there"
    place.switch("fail", on=False)
    resumed = place.run("resume", str(place.sweep), cwd=place.path.parent)
    assert resumed.returncode == 0, resumed.stderr
    assert place.states() == ["done"] * 4
    good, bad = ["good 1 a b"], ["bad 1 a b"] * 3
    assert place.runs() == {"0": good, "1": bad, "2": ["good 2 a b"], "3": ["bad 2 a b"] * 3}
    description = json.loads((place.sweep / "3" / "config.json").read_text())
    assert description["overrides"] == ["task=count", "seed=2", "task.mood=bad", "task.note='a b'"]
    assert description["sweep"] == str(place.sweep)
    assert description["command"][1] == "resume"
    again = place.run("resume", str(place.sweep))
    assert (again.returncode, again.stdout.splitlines()[-1].partition(": ")[2]) == (0, "4 done; 0 to run")


def test_a_running_cell_is_left_alone_and_a_killed_one_is_cut(place):
    place.switch("sleep", on=True)
    sweep = place.start("-m", "task=count", "task.mood=good,bad,bad", "seed=4")
    deadline = time.monotonic() + 100
    while not list(place.path.glob("multirun/*/*/1/runs.txt")):
        assert time.monotonic() < deadline
        assert sweep.poll() is None
        time.sleep(0.05)
    listed = place.run("resume", str(place.sweep), "--dry-run")
    assert listed.stdout.splitlines()[-1].endswith(": 1 missing, 1 running, 1 done; 1 to run")
    sweep.send_signal(signal.SIGKILL)
    sweep.communicate(timeout=60)
    place.switch("sleep", on=False)
    resumed = place.run("resume", str(place.sweep))
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.splitlines()[:3] == [
        "#0 done        task=count task.mood=good seed=4",
        "#1 cut         task=count task.mood=bad seed=4",
        "#2 missing     task=count task.mood=bad seed=4",
    ]
    assert place.states() == ["done"] * 3
    assert place.runs() == {"0": ["good 4 "], "1": ["bad 4 "] * 2, "2": ["bad 4 "]}


def test_a_sweep_of_a_study_of_ones_own_is_resumed_from_its_file(place):
    """Its directory was given with -cd, its cells use the job's number, and their directories are named."""
    (place.path / "conf").mkdir()
    (place.path / "conf" / "study.yaml").write_text(
        "defaults: [config, override task: count, _self_]\n"
        "task: {note: 'n${hydra:job.num}'}\n"
        "hydra: {sweep: {subdir: '${hydra:job.override_dirname}'}, sweeper: {params: {seed: '1,2'}}}\n"
    )
    place.switch("fail", on=True)
    assert place.run("-cd", "conf", "-cn", "study", "-m", "task.mood=good,bad").returncode == 2
    place.switch("fail", on=False)
    resumed = place.run("resume", str(place.sweep), cwd=place.path.parent)
    assert resumed.returncode == 0, resumed.stderr
    assert place.runs() == {
        "seed=1,task.mood=bad": ["bad 1 n1"] * 2,
        "seed=1,task.mood=good": ["good 1 n0"],
        "seed=2,task.mood=bad": ["bad 2 n3"] * 2,
        "seed=2,task.mood=good": ["good 2 n2"],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher", [["joblib", "hydra.launcher.n_jobs=2"], ["submitit_local", "hydra.launcher.timeout_min=2"]]
)
def test_other_launchers_mark_and_resume_their_cells(place, launcher):
    name, *options = launcher
    place.switch("fail", on=True)
    failed = place.run(
        "-m", f"hydra/launcher={name}", *options, "task=count", "seed=1,2", "task.mood=good,bad"
    )
    assert failed.returncode == 2, failed.stderr
    assert place.states() == ["done", "failed", "done", "failed"]
    described = json.loads((place.sweep / "0" / "config.json").read_text())
    assert described["command"][1:3] == ["-m", f"hydra/launcher={name}"], (
        "that of the user, not of the worker"
    )
    place.switch("fail", on=False)
    resumed = place.run("resume", str(place.sweep))
    assert resumed.returncode == 0, resumed.stderr
    assert place.runs() == {"0": ["good 1 "], "1": ["bad 1 "] * 2, "2": ["good 2 "], "3": ["bad 2 "] * 2}


def test_what_is_no_sweep_is_refused(place):
    done = place.run("resume", ".")
    assert done.returncode == 2
    assert done.stderr.startswith("quire: error: ")
    assert done.stderr.endswith("must be the directory of a sweep, with its multirun.yaml\n")
    assert done.stderr.count("\n") == 1
