"""How much a client lets wait, how long a request may take, and how often a dead engine is started again."""

from __future__ import annotations

from dataclasses import dataclass

from quire.errors import UserError
from quire.runtime.machine import cpu_threads

_PIECES_PER_CPU = 500.0
"""A second: a piece takes some 50 us of the process that speaks HTTP."""


@dataclass
class EngineLimits:
    """What an `EngineClient` allows, on top of what the engine itself does."""

    max_waiting: int = 1024
    """Requests that come while so many wait are refused (429). What waits is counted in samples, as vLLM
    does: a request is one until its prompt has been computed; from then on each of its `n` samples that found
    no room is one, and so is each that had to give way. A request is let in whole: with n=8 the queue may
    become 7 longer than this. Of embeddings and scores it is the most calls at a time."""
    request_seconds: float | None = None
    """Longest time from `generate` to the last token; null: any."""
    stream_pieces_per_second: float | None = None
    """Pieces sent to clients, all streams together; null: 500 for each CPU, so that sending them takes no
    more than a few percent of the machine. Where tokens come faster, those of a stream are sent together: on
    two CPUs each of 60 streams gets a piece every 60 ms, one alone gets every token by itself. First and last
    tokens never wait."""
    check_memory: bool = False
    """Whenever the engine runs out of work, check that its KV memory is whole and that nobody holds any; an
    engine that fails dies. Takes milliseconds a time."""
    max_restarts: int = 3
    """How often an engine that died is started again before it stays dead."""
    restart_seconds: float = 1.0
    """Pause before the first restart; each further one waits twice as long."""
    stable_seconds: float = 600.0
    """An engine that has lived this long after a restart has its restarts forgotten."""

    def __post_init__(self) -> None:
        if self.max_waiting < 1:
            raise UserError(f"server.limits.max_waiting={self.max_waiting}: must be at least 1")
        if self.request_seconds is not None and not self.request_seconds > 0:
            raise UserError(
                f"server.limits.request_seconds={self.request_seconds}: must be more than 0 seconds, or null"
            )
        if self.max_restarts < 0:
            raise UserError(f"server.limits.max_restarts={self.max_restarts}: must be at least 0")
        if self.stream_pieces_per_second is not None and not self.stream_pieces_per_second > 0:
            raise UserError(
                f"server.limits.stream_pieces_per_second={self.stream_pieces_per_second}: "
                "must be more than 0, or null"
            )
        for name in ("restart_seconds", "stable_seconds"):
            if not getattr(self, name) >= 0:
                raise UserError(f"server.limits.{name}={getattr(self, name)}: must be at least 0 seconds")

    def pieces_per_second(self) -> float:
        """Pieces that may leave the engine in a second, on this machine."""
        if self.stream_pieces_per_second is None:
            return _PIECES_PER_CPU * cpu_threads()
        return self.stream_pieces_per_second

    def restart_delay(self, attempt: int) -> float | None:
        """Seconds to wait before restart number `attempt` (from 0); None if there is to be none."""
        return self.restart_seconds * 2**attempt if attempt < self.max_restarts else None
