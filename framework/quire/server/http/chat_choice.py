"""One choice of a chat: pieces of the engine's output as deltas, or as a whole message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from quire.engine.outputs import SequenceOutput
from quire.engine.sequence import FinishReason
from quire.server.http.front_tokenizer import FrontTokenizer
from quire.server.http.logprobs import chat_logprobs
from quire.server.tools.tool_format import CallDelta, ToolParser


class ChatChoice:
    """Turns what comes of one sample into what clients read. A `parser` tells calls of tools apart."""

    def __init__(
        self, *, index: int, parser: ToolParser | None, with_logprobs: bool, tokenizer: FrontTokenizer
    ) -> None:
        self._index = index
        self._parser = parser
        self._with_logprobs = with_logprobs
        self._tokenizer = tokenizer
        self._begun = False
        self._calls = False
        """Whether a tool was called."""

    def chunks(self, output: SequenceOutput) -> Iterator[dict[str, Any]]:
        """Choices of the chunks that tell of a piece: the role first, the reason of the end last."""
        if not self._begun:
            self._begun = True
            yield self._chunk({"role": "assistant", "content": ""})
        logprobs = self._logprobs(output)
        deltas = [_delta(piece) for piece in self._split(output)]
        if not deltas and (logprobs is not None or output.finish_reason is not None):
            deltas = [{}]
        for number, delta in enumerate(deltas, 1):
            last = number == len(deltas)
            yield self._chunk(
                delta,
                logprobs=logprobs if number == 1 else None,
                finish_reason=self._finish_reason(output) if last else None,
            )

    def message(self, output: SequenceOutput) -> dict[str, Any]:
        """The choice of a whole sample."""
        content, calls = "", list[dict[str, Any]]()
        for piece in self._split(output):
            if isinstance(piece, str):
                content += piece
            elif piece.id is not None:
                calls.append(
                    {
                        "id": piece.id,
                        "type": "function",
                        "function": {"name": piece.name, "arguments": piece.arguments},
                    }
                )
            else:
                calls[piece.index]["function"]["arguments"] += piece.arguments
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if calls:
            message |= {"content": content or None, "tool_calls": calls}
        return {
            "index": self._index,
            "message": message,
            "logprobs": self._logprobs(output),
            "finish_reason": self._finish_reason(output),
        }

    def _split(self, output: SequenceOutput) -> list[str | CallDelta]:
        if self._parser is None:
            return [output.text] if output.text else []
        pieces = list(self._parser.feed(output.text))
        if output.finish_reason is not None:
            pieces += self._parser.flush()
        self._calls = self._calls or any(isinstance(piece, CallDelta) for piece in pieces)
        return pieces

    def _logprobs(self, output: SequenceOutput) -> dict[str, Any] | None:
        return chat_logprobs(output.logprobs, self._tokenizer) if self._with_logprobs else None

    def _finish_reason(self, output: SequenceOutput) -> str | None:
        reason = output.finish_reason
        if reason is FinishReason.STOP and self._calls:
            return "tool_calls"
        return None if reason is None else reason.value

    def _chunk(
        self,
        delta: dict[str, Any],
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> dict[str, Any]:
        return {"index": self._index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _delta(piece: str | CallDelta) -> dict[str, Any]:
    if isinstance(piece, str):
        return {"content": piece}
    call: dict[str, Any] = {"index": piece.index}
    function = {"arguments": piece.arguments}
    if piece.id is not None:
        call |= {"id": piece.id, "type": "function"}
        function = {"name": piece.name or "", **function}
    return {"tool_calls": [{**call, "function": function}]}
