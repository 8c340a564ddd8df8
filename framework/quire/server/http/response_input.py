"""The input of the responses API: a text, or items, made into the messages of a conversation."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from quire.server.http.errors import ApiError
from quire.server.http.messages import Message


def input_messages(given: str | list[dict[str, Any]], instructions: str | None) -> list[dict[str, Any]]:
    """Messages for the chat template. Raises ApiError for an item that cannot be read."""
    messages: list[dict[str, Any]] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    if not given:
        raise ApiError(400, "input=[]: must hold at least one item", param="input")
    for index, item in enumerate(given):
        where = f"input[{index}]"
        message = _message(item, where).for_template(where)
        if "tool_calls" in message and messages and "tool_calls" in messages[-1]:
            messages[-1]["tool_calls"] += message["tool_calls"]  # calls of one turn are one message
        else:
            messages.append(message)
    return messages


def _message(item: dict[str, Any], where: str) -> Message:
    kind = item.get("type", "message")
    match kind:
        case "message":
            given = {name: item.get(name) for name in ("role", "content")}
        case "function_call":
            call = {"id": item.get("call_id"), "function": {n: item.get(n) for n in ("name", "arguments")}}
            given = {"role": "assistant", "tool_calls": [call]}
        case "function_call_output":
            given = {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
        case _:
            raise ApiError(
                400,
                f"{where}: items of type {kind!r} cannot be read; message, function_call and "
                "function_call_output can",
                param="input",
                code="unsupported",
            )
    try:
        return Message.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise ApiError(400, f"{where}.{path}: {first['msg']}", param="input") from None
