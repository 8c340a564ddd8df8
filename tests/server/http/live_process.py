"""`task=serve` as a process of its own."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]


def command(directory: Path, *overrides: str) -> list[str]:
    return [
        *(sys.executable, str(ROOT / "run.py"), "task=serve", "device=cpu", "engine.threads=1"),
        *(f"hydra.run.dir={directory}", *overrides),
    ]


@contextmanager
def served(directory: Path, *overrides: str):
    """The process, and its URL as it is printed."""
    process = subprocess.Popen(
        command(directory, "server.port=0", *overrides),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        loading, serving = process.stdout.readline(), process.stdout.readline()
        model, _, url = serving.removeprefix("serving ").rpartition(" at ")
        assert loading.startswith("loading model ")
        assert model
        yield process, url.strip()
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
