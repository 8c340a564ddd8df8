"""An engine in a process of its own, watched: HTTP and tokenising never hold up a step.

The two processes share one socket pair. Its end is how each learns that the other is gone: an orphaned engine
stops, and a dead engine fails what was in flight and is started again, a limited number of times.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.server.client import EngineDead, EngineStatus
from quire.server.dispatch import DispatchingClient
from quire.server.engine_process import EngineProcess
from quire.server.limits import EngineLimits
from quire.server.messages import Command, Stop

if TYPE_CHECKING:
    from quire.config.run_config import RunConfig

_log = logging.getLogger(__name__)


class ProcessEngineClient(DispatchingClient):
    """Starts an engine process, speaks to it, and starts it again if it dies.

    From the engine's death until a restarted one is ready, `status` is DEAD and requests are refused with
    EngineDead; its `retry_after` is None if there is no restart to wait for.
    """

    def __init__(self, *, config: RunConfig, directory: Path, limits: EngineLimits | None = None) -> None:
        super().__init__(limits=limits or EngineLimits())
        self._config = config
        self._directory = directory
        self._process: EngineProcess | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._attempts = 0
        """Restarts in a row, none of them stable so far."""
        self._ready_since = 0.0
        self._load_seconds = 0.0

    @property
    def pid(self) -> int | None:
        """The engine's process; None while there is none."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        await self._launch()

    async def close(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
        self._die(EngineDead("the engine has been closed"))
        if self._process is not None:
            process, self._process = self._process, None
            process.send(Stop())
            await process.end()

    def _post(self, command: Command) -> None:
        if self._process is not None:  # there is nothing to call off in an engine that is dead
            self._process.send(command)

    async def _launch(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        process = EngineProcess(on_reply=self._dispatch, on_lost=self._on_lost)
        self.card = await process.launch(self._config, self._directory, self._limits)
        self._process = process
        self._ready_since = loop.time()
        self._load_seconds = self._ready_since - began
        self._status = EngineStatus.READY

    # -- supervision ---------------------------------------------------------------------------------------

    def _on_lost(self) -> None:
        """The connection is gone; nobody asked it to."""
        if self._process is not None:
            process, self._process = self._process, None
            restart = self._status is EngineStatus.READY
            self._status = EngineStatus.DEAD
            self._supervisor = asyncio.get_running_loop().create_task(self._supervise(process, restart))

    async def _supervise(self, process: EngineProcess, restart: bool) -> None:
        """Tell everybody why `process` ended and, unless the engine was draining anyway, start another."""
        await process.end()
        what = f"the engine died: {process.obituary()}"
        if asyncio.get_running_loop().time() - self._ready_since >= self._limits.stable_seconds:
            self._attempts = 0
        while (delay := self._limits.restart_delay(self._attempts) if restart else None) is not None:
            self._attempts += 1
            _log.error("%s; restart %d of %d in %g s", what, self._attempts, self._limits.max_restarts, delay)
            self._die(EngineDead(what, retry_after=delay + self._load_seconds))
            await asyncio.sleep(delay)
            try:
                await self._launch()
            except (UserError, EngineDead) as error:
                what = str(error)
            else:
                self._restarts += 1
                _log.warning("the engine is ready again, as process %s", self.pid)
                return
        _log.error("%s; it stays dead", what)
        self._die(EngineDead(what))
