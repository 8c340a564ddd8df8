"""The output of the responses API: items that grow, and the events that tell of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from quire.engine.outputs import SequenceOutput
from quire.engine.sequence import FinishReason
from quire.server.http.errors import ApiError
from quire.server.http.usage import Usage
from quire.server.tools.tool_format import CallDelta, ToolParser


class ResponseOutput:
    """One response as it is generated. `response` is the object as of now.

    Methods yield events in order; each is to be encoded before the next is asked for, as items grow.
    """

    def __init__(self, *, response: dict[str, Any], parser: ToolParser | None, usage: Usage) -> None:
        self.response = response
        self._parser = parser
        self._usage = usage
        self._items: list[dict[str, Any]] = response["output"]
        self._sequence_number = -1
        self._open = False
        """Whether the last item still grows."""

    def begin(self) -> Iterator[dict[str, Any]]:
        """Before the first piece."""
        yield self._event("response.created", response=self.response)
        yield self._event("response.in_progress", response=self.response)

    def take(self, output: SequenceOutput) -> Iterator[dict[str, Any]]:
        """A piece of the engine's output; the last one ends the response."""
        self._usage.add(output)
        for piece in self._split(output):
            if isinstance(piece, str):
                yield from self._text(piece)
            else:
                yield from self._call(piece)
        if output.finish_reason is not None:
            if not self._items:
                yield from self._begin_message()
            yield from self._end(output.finish_reason)

    def error(self, error: ApiError) -> dict[str, Any]:
        """The event that tells of an error; nothing follows it."""
        told = error.body()["error"]
        return self._event(
            "error", code=told["code"], message=told["message"], param=told["param"], error=told
        )

    def _split(self, output: SequenceOutput) -> list[str | CallDelta]:
        if self._parser is None:
            return [output.text] if output.text else []
        pieces = list(self._parser.feed(output.text))
        return [*pieces, *self._parser.flush()] if output.finish_reason is not None else pieces

    def _text(self, text: str) -> Iterator[dict[str, Any]]:
        if not (self._open and self._items[-1]["type"] == "message"):
            yield from self._close_item("completed")
            yield from self._begin_message()
        self._items[-1]["content"][0]["text"] += text
        yield self._event(
            "response.output_text.delta", **self._place(), content_index=0, delta=text, logprobs=[]
        )

    def _begin_message(self) -> Iterator[dict[str, Any]]:
        item = _item("msg", "message", role="assistant", content=[])
        yield from self._add(item)
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        yield self._event("response.content_part.added", **self._place(), content_index=0, part=part)
        item["content"].append(dict(part))

    def _call(self, call: CallDelta) -> Iterator[dict[str, Any]]:
        if call.id is not None:
            yield from self._close_item("completed")
            yield from self._add(_item("fc", "function_call", call_id=call.id, name=call.name, arguments=""))
        if call.arguments:
            self._items[-1]["arguments"] += call.arguments
            yield self._event("response.function_call_arguments.delta", **self._place(), delta=call.arguments)

    def _add(self, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        self._items.append(item)
        self._open = True
        yield self._event("response.output_item.added", output_index=len(self._items) - 1, item=item)

    def _close_item(self, status: str) -> Iterator[dict[str, Any]]:
        """The last item grows no more."""
        if not self._open:
            return
        self._open = False
        item = self._items[-1]
        item["status"] = status
        if item["type"] == "message":
            part = item["content"][0]
            place = self._place() | {"content_index": 0}
            yield self._event("response.output_text.done", **place, text=part["text"], logprobs=[])
            yield self._event("response.content_part.done", **place, part=part)
        else:
            yield self._event(
                "response.function_call_arguments.done",
                **self._place(),
                name=item["name"],
                arguments=item["arguments"],
            )
        yield self._event("response.output_item.done", output_index=len(self._items) - 1, item=item)

    def _end(self, reason: FinishReason) -> Iterator[dict[str, Any]]:
        status = "incomplete" if reason is FinishReason.LENGTH else "completed"
        yield from self._close_item(status)
        self.response["status"] = status
        if status == "incomplete":
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        self.response["usage"] = self._usage.response_form()
        yield self._event(f"response.{status}", response=self.response)

    def _place(self) -> dict[str, Any]:
        """Which item an event is about: the last."""
        return {"item_id": self._items[-1]["id"], "output_index": len(self._items) - 1}

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        self._sequence_number += 1
        return {"type": kind, "sequence_number": self._sequence_number, **fields}


def _item(prefix: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"{prefix}_{uuid.uuid4().hex}", "type": kind, "status": "in_progress", **fields}
