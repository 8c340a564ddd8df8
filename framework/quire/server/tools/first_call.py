"""At most one call a sample, for clients that asked for no more."""

from __future__ import annotations

from quire.server.tools.tool_format import CallDelta, ToolParser


class FirstCallParser(ToolParser):
    """What `parser` finds, without calls after the first."""

    def __init__(self, parser: ToolParser) -> None:
        super().__init__()
        self._parser = parser

    def feed(self, text: str) -> list[str | CallDelta]:
        return _without_later_calls(self._parser.feed(text))

    def flush(self) -> list[str | CallDelta]:
        return _without_later_calls(self._parser.flush())


def _without_later_calls(pieces: list[str | CallDelta]) -> list[str | CallDelta]:
    return [piece for piece in pieces if isinstance(piece, str) or piece.index == 0]
