"""The lines of OpenAI's batch files: requests in, answers and errors out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quire.errors import UserError
from quire_plugins.tasks.input_lines import parse_line
from quire_plugins.tasks.kept_lines import foreign_line, kept_lines

URLS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
_BEGINNING = b'{"id": "batch_req_'


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchRequest:
    """One line of the input."""

    custom_id: str
    url: str
    body: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Told by all that is asked, so that an answer is known to belong to its line."""
        asked = json.dumps([self.custom_id, self.url, self.body], sort_keys=True)
        return f"batch_req_{hashlib.blake2b(asked.encode(), digest_size=16).hexdigest()}"


def read_request(line: Mapping[str, Any]) -> BatchRequest:
    """The request of a line. Raises UserError."""
    custom_id, url, body = line.get("custom_id"), line.get("url"), line.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        raise UserError(f"custom_id={custom_id!r}: must be a string")
    if line.get("method") != "POST":
        raise UserError(f"method={line.get('method')!r}: must be 'POST'")
    if url not in URLS:
        raise UserError(f"url={url!r}: must be one of {', '.join(URLS)}")
    if not isinstance(body, dict):
        raise UserError("body: must be an object")
    if body.get("stream"):
        raise UserError("body.stream: a batch has no streams; must be false")
    return BatchRequest(custom_id=custom_id, url=url, body=body)


def answer_line(request: BatchRequest, *, status: int, request_id: str, body: Any) -> dict[str, Any]:
    """What came back for a request, with status 200 or another."""
    return {
        "id": request.id,
        "custom_id": request.custom_id,
        "response": {"status_code": status, "request_id": request_id, "body": body},
        "error": None,
    }


def error_line(number: int, custom_id: Any, reason: str) -> dict[str, Any]:
    """Why nothing was asked for the line of that number, from 1."""
    return {
        "id": f"batch_req_line_{number}",
        "custom_id": custom_id if isinstance(custom_id, str) else None,
        "response": None,
        "error": {"code": "invalid_request", "message": reason, "line": number},
    }


def answered(path: Path) -> dict[str, str]:
    """The id of each answer that an earlier run left in `path`, by custom_id; none if there is no file.

    A last line that a kill cut short is dropped. Raises UserError if the file holds anything else.
    """
    found: dict[str, str] = {}
    for number, raw in kept_lines(path, beginning=_BEGINNING, what="answer"):
        answer = _parse_answer(raw, path, number)
        found[answer["custom_id"]] = answer["id"]
    return found


def _parse_answer(raw: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        answer = parse_line(raw)
    except UserError:
        raise foreign_line(path, number, "answer") from None
    if not all(isinstance(answer.get(name), str) for name in ("id", "custom_id")):
        raise foreign_line(path, number, "answer")
    return answer
