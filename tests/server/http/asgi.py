"""The two ends of an ASGI application, held by a test."""

from __future__ import annotations

import asyncio
from typing import Any


class Wire:
    """A connection: what the client has sent, and what the application answers."""

    def __init__(self, *messages: dict[str, Any], method="POST", path="/", headers=()) -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(name.encode(), value.encode()) for name, value in headers],
            "client": ("test", 1),
        }
        self.sent: list[dict[str, Any]] = []
        self.blocked = False
        """While true, the client takes nothing."""
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for message in messages:
            self._inbox.put_nowait(message)

    def say(self, message: dict[str, Any]) -> None:
        self._inbox.put_nowait(message)

    def hang_up(self) -> None:
        self.say({"type": "http.disconnect"})

    async def receive(self) -> dict[str, Any]:
        return await self._inbox.get()

    async def send(self, message: dict[str, Any]) -> None:
        while self.blocked:
            await asyncio.sleep(0.005)
        self.sent.append(message)

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def ended(self) -> bool:
        return bool(self.sent) and not self.sent[-1].get("more_body", True)


def part(body: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}
