"""Chat messages as clients send them, made into what chat templates read."""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field

from quire.server.http.errors import ApiError
from quire.server.http.model import ApiModel

_TEXT_PARTS = ("text", "input_text", "output_text", "refusal")


class ContentPart(ApiModel):
    """One part of a message's content."""

    type: str
    text: str | None = None


class FunctionCall(ApiModel):
    """A call as the model made it; `arguments` is JSON."""

    name: str
    arguments: str | dict[str, Any] | None = None


class ToolCall(ApiModel):
    """A call in a message of the assistant's."""

    id: str | None = None
    type: str | None = None
    function: FunctionCall


class Message(ApiModel):
    """One message of a conversation."""

    role: str = Field(min_length=1)
    content: str | list[ContentPart] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None

    def for_template(self, where: str) -> dict[str, Any]:
        """The message with its content as one text. Raises ApiError for parts that are no text."""
        # OpenAI's newer name for the system; templates know the older one.
        role = "system" if self.role == "developer" else self.role
        message: dict[str, Any] = {"role": role, "content": text_of(self.content, where)}
        if self.name is not None:
            message["name"] = self.name
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        if self.tool_calls:
            message["tool_calls"] = [_tool_call(call, where) for call in self.tool_calls]
        return message


def text_of(content: str | list[ContentPart] | None, where: str) -> str:
    """The text of a content; parts follow each other. Raises ApiError, naming it, for one that is no text."""
    if content is None or isinstance(content, str):
        return content or ""
    texts: list[str] = []
    for index, part in enumerate(content):
        if part.type not in _TEXT_PARTS:
            raise ApiError(
                400,
                f"{where}.content[{index}]: parts of type {part.type!r} cannot be read, only text",
                param=where.partition("[")[0],
                code="unsupported",
            )
        text = part.text if part.type != "refusal" else (part.model_extra or {}).get("refusal")
        if not isinstance(text, str):
            raise ApiError(400, f"{where}.content[{index}]: has no text", param=where.partition("[")[0])
        texts.append(text)
    return "".join(texts)


def _tool_call(call: ToolCall, where: str) -> dict[str, Any]:
    """Templates print arguments as an object; clients send them as the JSON that they received."""
    arguments = call.function.arguments
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except ValueError as error:
            raise ApiError(
                400,
                f"{where}.tool_calls: the arguments of {call.function.name!r} are no JSON: {error}",
                param=where.partition("[")[0],
            ) from None
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments or {}},
    }
