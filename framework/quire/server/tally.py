"""What an engine has done since somebody began to count, as sums."""

from __future__ import annotations

from quire.engine.engine import Engine
from quire.server.client import EngineStats


class Tally:
    """Adds up an engine's step records as they are made. Nothing before it counts: it is made when the engine
    has been warmed up.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._steps = self._preemptions = self._computed = 0
        self._busy = self._scheduling = 0.0
        self._before = engine.allocator.stats()
        self._generated_before = engine.num_generated

    def update(self) -> None:
        """A step has been made."""
        for record in self._engine.take_records():
            self._steps += 1
            self._preemptions += record.num_preempted
            self._computed += record.num_tokens
            self._busy += record.seconds
            self._scheduling += record.schedule_seconds

    def stats(self) -> EngineStats:
        """The sums, and the engine's state as of now."""
        kv = self._engine.allocator.stats()
        return EngineStats(
            running=self._engine.num_running,
            waiting=self._engine.num_waiting,
            kv_used=kv.used,
            kv_cached=kv.cached,
            kv_total=kv.total,
            prefix_queries=kv.prefix_queries - self._before.prefix_queries,
            prefix_hits=kv.prefix_hits - self._before.prefix_hits,
            preemptions=self._preemptions,
            evictions=kv.evictions - self._before.evictions,
            steps=self._steps,
            computed_tokens=self._computed,
            generated_tokens=self._engine.num_generated - self._generated_before,
            busy_seconds=self._busy,
            schedule_seconds=self._scheduling,
        )
