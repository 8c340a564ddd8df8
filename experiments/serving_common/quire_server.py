"""`task=serve` as a process of its own, and what can be seen of it from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Server:
    """A server that runs. `front` is the HTTP process, `engine` its child that computes."""

    port: int
    front: int
    engine: int

    def rss(self) -> tuple[int, int]:
        """Bytes that each of the two processes holds in memory."""
        return resident_bytes(self.front), resident_bytes(self.engine)

    def cpu_seconds(self) -> tuple[float, float]:
        """What each has used so far."""
        return cpu_seconds(self.front), cpu_seconds(self.engine)


@contextmanager
def quire_server(directory: Path, *overrides: str) -> Iterator[Server]:
    """Start `python run.py task=serve` on a free port, wait until it is ready; SIGTERM at the end, which must
    end it with code 0.
    """
    command = [sys.executable, str(ROOT / "run.py"), "task=serve", "server.port=0"]
    process = subprocess.Popen(
        [*command, f"hydra.run.dir={directory}", *overrides],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("serving "):
                break
        else:
            raise RuntimeError(f"the server ended with code {process.wait()} before it was ready")
        port = int(line.rsplit(":", 1)[1])
        yield Server(port=port, front=process.pid, engine=_engine_of(process.pid))
        process.terminate()
        code = process.wait(60)
        assert code == 0, f"the server ended with code {code}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


def resident_bytes(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all its threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _engine_of(front: int) -> int:
    """The child of `front` that runs the engine: of those there are, the one with the most memory."""
    children = Path(f"/proc/{front}/task/{front}/children").read_text().split()
    return max(map(int, children), key=resident_bytes)


def wait_until(holds, seconds: float = _START_SECONDS) -> bool:
    """Whether `holds()` comes to hold within that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.1)
    return False
