"""The Triton kernels, and what launches them, under Triton's interpreter.

The interpreter has to be chosen before triton is imported: each file of cases runs in a process of its own.
"""

import importlib.util
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)


def release(distribution: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version(distribution).split(".")[:2])


if release("triton") < (3, 7) and release("numpy") >= (2, 4):
    pytest.skip("the interpreter of Triton 3.6 does not work with numpy 2.4", allow_module_level=True)

TESTS = Path(__file__).parents[1]
QUICK = {
    "interpreted_alibi",
    "interpreted_elementwise",
    "interpreted_pages",
    "interpreted_pairs",
    "interpreted_row_groups",
    "interpreted_states",
}


def _cases():
    for path in sorted(TESTS.glob("*/interpreted_*.py")):
        yield pytest.param(path, id=path.stem, marks=[] if path.stem in QUICK else [pytest.mark.slow])


@pytest.mark.parametrize("cases", list(_cases()))
def test_under_the_interpreter(cases):
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", cases],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        cwd=TESTS.parent,
    )
    if run.returncode != 0:
        pytest.fail(
            f"{cases.name} under the interpreter:\n{run.stdout[-20000:]}\n{run.stderr[-4000:]}", pytrace=False
        )
