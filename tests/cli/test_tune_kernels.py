"""`quire tune-kernels` where there is nothing to tune on."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "tune-kernels: this machine shows no CUDA device to time kernels on"),
        (
            ["("],
            "tune-kernels: '(' is no regular expression: missing ), unterminated subpattern at position 0",
        ),
    ],
)
def test_one_line_says_what_is_wrong(arguments, message, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    program = "import sys; from quire.cli import main; sys.argv = sys.argv[1:]; main()"
    command = [sys.executable, "-c", program, "quire", "tune-kernels", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"quire: error: {message}\n"
