"""`task=serve` as a process, for as long as clients ask."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DRAIN_SECONDS = 60
COMMON = ("device=cpu", "dtype=float32", "server.port=0")


class ServerFailed(Exception):
    """It did not start, or did not end as it should."""


@contextlib.contextmanager
def served(model: str, *overrides: str, name: str, directory: Path) -> Iterator[str]:
    """The URL of a server of `model` under `name`, with options of the command line.

    Errors that it prints go to a file in `directory`.

    At the end it must be in good health, and go within a minute, with status 0, when it is told to.
    """
    log = directory / f"{name}.log"
    command = [sys.executable, str(ROOT / "run.py"), "task=serve", f"model={model}", *COMMON]
    command += [f"server.served_names=[{name}]", f"hydra.run.dir={directory / name}", *overrides]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, text=True)
        assert process.stdout is not None
        try:
            url = _url(process.stdout)
            if url is None:
                raise ServerFailed(f"{name} did not start; see {log}")
            yield url
            with urllib.request.urlopen(f"{url}/ready", timeout=30) as answer:
                assert answer.status == 200
            process.send_signal(signal.SIGTERM)
            if status := process.wait(DRAIN_SECONDS):
                raise ServerFailed(f"{name} ended with status {status}; see {log}")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stdout.close()


def _url(output) -> str | None:
    for line in output:
        if line.startswith("serving "):
            return line.rpartition(" at ")[2].strip()
    return None
