"""Lines of an input file: from JSON to requests, each mistake as one line of reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quire.engine.request import Request, SamplingParams
from quire.errors import UserError
from quire.jobs.sampling_fields import integers, sampling_from_json

if TYPE_CHECKING:
    from quire.text.tokenizer import Tokenizer

PROMPT_KEYS = ("prompt", "messages", "prompt_token_ids")
"""A line has exactly one of them."""
LABEL_KEYS = ("id", "metadata")
"""Copied to the output; anything else on a line is a sampling parameter."""


def parse_line(raw: bytes) -> dict[str, Any]:
    """The JSON object of a line. Raises UserError."""
    try:
        line = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8: byte {raw[error.start]:#04x} at {error.start}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise UserError("not JSON: nested too deeply") from None
    if not isinstance(line, dict):
        raise UserError(f"not a JSON object but {type(line).__name__}")
    return line


def prompt_of(line: Mapping[str, Any]) -> tuple[str, Any]:
    """The prompt's key and value. Raises UserError unless there is exactly one."""
    found = [key for key in PROMPT_KEYS if key in line]
    if len(found) != 1:
        has = "has " + " and ".join(found) if found else "has none of them"
        raise UserError(f"must have one of {', '.join(PROMPT_KEYS)}; it {has}")
    return found[0], line[found[0]]


def make_request(
    line: Mapping[str, Any], *, id: str, tokenizer: Tokenizer, defaults: SamplingParams
) -> Request:
    """The request of a line: its prompt, and the sampling parameters that it overrides. Raises UserError."""
    key, prompt = prompt_of(line)
    if not isinstance(line.get("id"), str | int | None):
        raise UserError(f"id={line['id']!r}: must be a string or an integer")
    overrides = {name: value for name, value in line.items() if name not in (*PROMPT_KEYS, *LABEL_KEYS)}
    return Request(
        id=id,
        prompt_token_ids=_token_ids(key, prompt, tokenizer),
        sampling=sampling_from_json(overrides, defaults) if overrides else defaults,
    )


def fingerprint(line: Mapping[str, Any]) -> bytes:
    """What tells a line from others: its id and prompt. An output line has that of its input line."""
    identity = [line.get(key) for key in ("id", *PROMPT_KEYS)]
    return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=16).digest()


def _token_ids(key: str, prompt: Any, tokenizer: Tokenizer) -> tuple[int, ...]:
    if key == "prompt_token_ids":
        return integers(key, prompt)
    if key == "messages":
        text = tokenizer.apply_chat_template(_messages(prompt))
        return tuple(tokenizer.encode(text, add_special_tokens=False))
    if not isinstance(prompt, str):
        raise UserError(f"prompt={prompt!r}: must be a string")
    return tuple(tokenizer.encode(prompt))


def _messages(messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, list):
        raise UserError("messages: must be a list of objects")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise UserError(f"messages[{number}]: must be an object with a role")
    return messages
