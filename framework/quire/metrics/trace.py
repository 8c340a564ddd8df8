"""A profile in the Trace Event Format, which Perfetto (ui.perfetto.dev) and chrome://tracing read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quire.engine.profile import Profile

_THREADS = ("engine", "executor")


def write_trace(profile: Profile, path: Path) -> None:
    """Write `profile` as JSON; times are microseconds since its first phase."""
    with path.open("w", encoding="utf-8") as file:
        file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
        for number, event in enumerate(trace_events(profile)):
            file.write((",\n" if number else "") + json.dumps(event))
        file.write("\n]}\n")


def trace_events(profile: Profile) -> Iterator[dict[str, Any]]:
    """Names of the threads, then a complete event a phase; those of a step say what the step holds."""
    for thread, name in enumerate(_THREADS):
        yield {"ph": "M", "name": "thread_name", "pid": 0, "tid": thread, "args": {"name": name}}
    starts = [track.starts[0] for track in (profile.engine, profile.executor) if track.starts]
    origin = min(starts, default=0.0)
    held = {index: {"step": index, "tokens": t, "sequences": s} for index, t, s in profile.steps}
    for thread, track in enumerate((profile.engine, profile.executor)):
        for name, turn, start, end in zip(track.names, track.turns, track.starts, track.ends, strict=True):
            yield {
                "ph": "X",
                "name": name,
                "pid": 0,
                "tid": thread,
                "ts": (start - origin) * 1e6,
                "dur": (end - start) * 1e6,
                "args": held[turn] if thread else {"turn": turn},
            }
