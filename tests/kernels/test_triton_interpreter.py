"""The Triton kernels against the reference, under Triton's interpreter.

The interpreter has to be chosen before triton is imported: each file of cases runs in a process of its own.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
HERE = Path(__file__).parent


@pytest.mark.parametrize("cases", ["interpreted_attention.py", "interpreted_elementwise.py"])
def test_under_the_interpreter(cases):
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", HERE / cases],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        cwd=HERE.parents[1],
    )
    if run.returncode != 0:
        pytest.fail(
            f"{cases} under the interpreter:\n{run.stdout[-20000:]}\n{run.stderr[-4000:]}", pytrace=False
        )
