"""The loop around an engine: read what has come, make a step, send what it brought."""

from __future__ import annotations

from dataclasses import replace

from quire.engine.engine import Engine
from quire.engine.outputs import SequenceOutput
from quire.errors import RequestRefused
from quire.server.limits import EngineLimits
from quire.server.link import Link
from quire.server.messages import (
    Abort,
    Add,
    AskScores,
    AskStats,
    AskVectors,
    CallFailed,
    CancelCall,
    Command,
    Outputs,
    Refused,
    Stats,
    Stop,
)
from quire.server.tally import Tally
from quire.server.throttle import Throttle


class EngineHost:
    """Serves one engine to whoever is at the other end of `link`, in the thread that calls `run`."""

    def __init__(self, *, engine: Engine, link: Link, limits: EngineLimits) -> None:
        self._engine = engine
        self._link = link
        self._tally = Tally(engine)
        self._throttle = Throttle(clock=engine.clock, rate=limits.pieces_per_second())
        self._checks_memory = limits.check_memory
        self._seen = 0
        self._told = (0, 0)
        self._stopped = False

    def run(self) -> None:
        """Until told to stop. Raises LinkClosed if the client goes, and whatever breaks the engine."""
        while not self._stopped:
            for command in self._link.receive(wait=not self._engine.has_work):
                self._obey(command)
            if self._engine.has_work:
                self.deliver(self._engine.step(lets=self._throttle.lets))
                if self._checks_memory and not self._engine.has_work:
                    self._check_memory()

    def deliver(self, outputs: list[SequenceOutput]) -> None:
        """Send what a step brought, if it is news to the client."""
        self._tally.update()
        queue = (self._seen, self._engine.num_waiting)
        if outputs or queue != self._told:
            self._told = queue
            self._link.send(Outputs(outputs=outputs, seen=queue[0], waiting=queue[1]))

    def _check_memory(self) -> None:
        allocator = self._engine.allocator
        allocator.check_integrity()
        used = allocator.stats().used
        assert not used, f"{used} blocks are held although no sequence lives"

    def _obey(self, command: Command) -> None:
        match command:
            case Add():
                self._add(command)
            case Abort():
                self._engine.abort(command.request_id)
            case AskStats():
                self._link.send(Stats(call=command.call, stats=self._tally.stats()))
            case AskVectors() | AskScores():
                reason = "this model generates text; it has no vectors or scores to give"
                self._link.send(CallFailed(call=command.call, reason=reason, by_user=True))
            case CancelCall():
                pass  # calls are answered at once
            case Stop():
                self._stopped = True

    def _add(self, command: Add) -> None:
        self._seen += 1
        request = command.request
        if request.deadline is not None:
            request = replace(request, deadline=request.deadline + self._engine.clock.now())
        try:
            self._engine.add(request, whole=command.whole)
        except RequestRefused as refusal:
            self._link.send(Refused(request_id=request.id, reason=str(refusal)))
