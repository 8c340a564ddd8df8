"""A workload's requests, as an engine asks for them that takes the same time for each.

A script too, for `served_elsewhere`: it reads a workload and what to ask of it, and writes what that made.
"""

from __future__ import annotations

import heapq
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from itertools import count

from quire.engine.request import Request
from quire.engine.sequence import FinishReason
from quire.interfaces.workload import Workload, WorkloadContext
from quire.models.checkpoint import DEMO, open_checkpoint
from quire.text.tokenizer import Tokenizer

Served = tuple[Request, float | None]
"""A request, and when the one ended that set it off; None for one of the stream."""


def served(
    workload: Workload, *, seed: int, max_model_tokens: int, seconds: float = 1.0, fails: bool = False
) -> Iterator[Served]:
    """Requests for the demo model in the order of their arrival. Each ends `seconds` later, with as many
    tokens as it must have, or without any because it failed, and may then set off others.
    """
    stream = workload.requests(demo_context(workload, seed=seed, max_model_tokens=max_model_tokens))
    head, set_off, order = next(stream, None), list[tuple[float, int, Request, float]](), count()
    while head is not None or set_off:
        after = None
        if head is not None and (not set_off or arrival(head) <= set_off[0][0]):
            request, head = head, next(stream, None)
        else:
            _, _, request, after = heapq.heappop(set_off)
        yield request, after
        if workload.reacts:
            tokens = () if fails else (1,) * (request.forced_output_tokens or 3)
            reason = FinishReason.ERROR if fails else FinishReason.LENGTH
            end = arrival(request) + seconds
            for new in workload.on_end(request, tokens, reason, end):
                heapq.heappush(set_off, (arrival(new), next(order), new, end))


def demo_context(workload: Workload, *, seed: int, max_model_tokens: int) -> WorkloadContext:
    """What requests for the demo model may be made from."""
    checkpoint = open_checkpoint(DEMO)
    return WorkloadContext(
        seed=seed,
        vocab_size=int(checkpoint.config["vocab_size"]),
        max_model_tokens=max_model_tokens,
        tokenizer=Tokenizer.load(checkpoint.path) if workload.uses_text else None,
    )


def arrival(request: Request) -> float:
    """Seconds from the start of the run."""
    assert request.arrival_time is not None, f"{request.id} has no arrival time"
    return request.arrival_time


def served_elsewhere(workload: Workload, *, seed: int, max_model_tokens: int) -> list[Served]:
    """What `served` yields in another process, where strings have other hashes; pickle takes it there."""
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(
        [sys.executable, "-P", __file__],
        env=environment,
        input=pickle.dumps((workload, seed, max_model_tokens)),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return pickle.loads(done.stdout)


def _main() -> None:
    workload, seed, max_model_tokens = pickle.load(sys.stdin.buffer)
    made = list(served(workload, seed=seed, max_model_tokens=max_model_tokens))
    sys.stdout.buffer.write(pickle.dumps(made))


if __name__ == "__main__":
    _main()
