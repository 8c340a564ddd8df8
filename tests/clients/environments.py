"""A virtual environment for each client, made once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from catalogue import Client

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "quire"


class Environments:
    """Those under one folder; vLLM's under the folder of the peers of experiments/cpu_speed."""

    def __init__(self, *, directory: Path, peers: Path) -> None:
        self._directory = directory
        self._peers = peers

    def python(self, client: Client) -> Path | None:
        """The interpreter, after installing what is missing; None for a peer that is not installed."""
        if not client.requirements:
            peer = self._peers / "vllm" / "bin" / "python"
            return peer if peer.exists() else None
        place = self._directory / client.name
        python, stamp = place / "bin" / "python", place / "requirements.json"
        wanted = list(client.requirements)
        if not stamp.exists() or json.loads(stamp.read_text()) != wanted:
            print(f"{client.name}: installing {' '.join(wanted)}", flush=True)
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
            stamp.write_text(json.dumps(wanted))
        return python
