"""vLLM's server as a process of its own, tuned as its guide for CPUs says."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peers import Peer
from streams import get

_START_SECONDS = 300.0
_KV_GIB = 4


@contextmanager
def vllm_server(peer: Peer, model: Path, log: Path, *, max_sequences: int) -> Iterator[int]:
    """Start it on a free port, wait until it is ready, and yield the port; its processes end with it."""
    preloads = peer.preloads()
    assert preloads is not None, f"no tcmalloc or libiomp5 in {peer.directory}"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {"VLLM_CPU_KVCACHE_SPACE": str(_KV_GIB), "HF_HUB_OFFLINE": "1", **preloads}
    command = [str(peer.python), "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(model), "--dtype", "bfloat16"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "model"]
    command += ["--max-num-seqs", str(max_sequences), "--disable-uvicorn-access-log"]
    with log.open("w") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + _START_SECONDS
        while not _is_up(port):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"vLLM's server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.5)
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _is_up(port: int) -> bool:
    try:
        return get(port, "/health")[0] == 200
    except (OSError, ValueError, IndexError):
        return False
