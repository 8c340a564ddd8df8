"""One request on the client's side: the pieces that have come and nobody has read yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from quire.engine.outputs import SequenceOutput
from quire.engine.request import Request
from quire.server.pieces import merged


class Stream:
    """Filled by the client as messages come, read by one task. It never holds more than the outputs."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.deserted = False
        """Nobody reads any more; the engine has been told, but has not let go yet."""
        self.timer: asyncio.TimerHandle | None = None
        self._unended = request.sampling.n
        self._pieces: list[SequenceOutput] = []
        self._failure: Exception | None = None
        self._reader: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether every sample has had its last piece."""
        return not self._unended

    def push(self, piece: SequenceOutput) -> None:
        """The next piece has come."""
        if piece.finish_reason is not None:
            self._unended -= 1
        if not self.deserted:
            self._pieces.append(piece)
            self._wake()

    def fail(self, failure: Exception) -> None:
        """Nothing more comes; whoever reads learns why, after the pieces that have come."""
        self._failure = failure
        self._wake()

    def desert(self) -> None:
        """Nobody will read."""
        self.deserted = True
        self._pieces.clear()

    async def take(self) -> list[SequenceOutput]:
        """What has come since the last call, a piece a sample; nothing once all samples have ended."""
        while not self._pieces:
            if self._failure is not None:
                raise self._failure
            if self.ended:
                return []
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        pieces, self._pieces = self._pieces, []
        return pieces if len(pieces) == 1 else _by_sample(pieces)

    def expire_after(self, seconds: float, expire: Callable[[Stream], None]) -> None:
        """Have `expire(self)` called unless `settle` comes first."""
        self.timer = asyncio.get_running_loop().call_later(seconds, expire, self)

    def settle(self) -> None:
        """The engine has let go."""
        if self.timer is not None:
            self.timer.cancel()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def _by_sample(pieces: list[SequenceOutput]) -> list[SequenceOutput]:
    samples: dict[int, list[SequenceOutput]] = {}
    for piece in pieces:
        samples.setdefault(piece.index, []).append(piece)
    return [merged(each) for each in samples.values()]
