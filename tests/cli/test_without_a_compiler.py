"""A machine that compiles no C++ and has no kernels built: what a run says, and that what it says runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

RUN_PY = Path(__file__).parents[2] / "run.py"
FEW = ("workload=synthetic", "workload.requests=2", "workload.output_mean=4", "engine.threads=1")


@pytest.fixture
def run(tmp_path):
    """run.py in an environment of its own: no program on the PATH, no compiler named, an empty cache."""
    (tmp_path / "bin").mkdir()
    environment = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path), "COLUMNS": "120"}
    environment |= {
        name: os.environ[name] for name in ("PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ
    }

    def run(*arguments):
        return subprocess.run(
            [sys.executable, str(RUN_PY), *arguments, *FEW],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def complaint(done):
    """The one line with which a run that cannot be ends."""
    assert done.returncode == 2, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if not line.startswith("loading model"))
    return line


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((), "attention=paged"),
        (("attention=sdpa",), "ops=native"),
        (("attention=sdpa", "ops=torch", "quantization=w8a8"), "quantization"),
    ],
)
def test_what_needs_a_compiler_says_so_in_a_line(run, arguments, what):
    """And nothing takes its place: neither another attention nor other operations."""
    line = complaint(run(*arguments))
    assert line.startswith(f"quire: error: {what}")
    assert "install g++ or set CXX" in line
    assert "attention=sdpa ops=torch" in line


def test_what_it_names_instead_runs_to_its_end(run, tmp_path):
    named = re.search(r"(attention=\w+ ops=\w+) need no compiler", complaint(run()))
    done = run(*named[1].split())
    assert done.returncode == 0, done.stderr
    assert "output tokens/s" in done.stdout
    assert not list(tmp_path.rglob("*.so"))
