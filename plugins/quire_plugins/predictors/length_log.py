"""Reads what a run's log tells of output lengths."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from quire.errors import UserError


@dataclass(frozen=True, slots=True)
class LoggedLength:
    """One completed sample of a request."""

    num_prompt_tokens: int
    tenant: str
    output_tokens: int


def read_lengths(log: str) -> list[LoggedLength]:
    """The completed samples of a `requests.jsonl`, in its order. Raises UserError if there are none."""
    path = Path(log).expanduser()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UserError(f"predictor.log={log}: cannot be read: {reason}") from None
    rows: list[LoggedLength] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            length = len(row["token_times"])
            if row["finish_reason"] in ("stop", "length") and length:
                rows.append(LoggedLength(int(row["num_prompt_tokens"]), str(row["tenant"]), length))
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"predictor.log={log}: line {number} is no record of a request, as in a requests.jsonl"
            ) from None
    if not rows:
        raise UserError(
            f"predictor.log={log}: no completed request to learn from; a requests.jsonl with some is needed"
        )
    return rows
