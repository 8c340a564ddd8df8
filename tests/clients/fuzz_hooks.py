"""What schemathesis loads: it fills in what the description leaves open.

Names of models become the one that is served, outputs without a length are kept short, and names of logits
processors, which nobody could guess, are left out.
"""

from __future__ import annotations

import os
from typing import Any

import schemathesis

MODEL = os.environ["FUZZED_MODEL"]
LENGTHS = {"messages": "max_tokens", "input": "max_output_tokens"}
"""What bounds the output, by the field that holds the input."""


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Some bodies stay as they are: every third name that was made up, every eighth length and processor."""
    del context
    if not isinstance(body, dict):
        return body
    body = dict(body)
    if isinstance(body.get("model"), str) and len(body["model"]) % 3:
        body["model"] = MODEL
    if len(repr(body)) % 8:
        body.pop("vllm_xargs", None)
    for field, length in LENGTHS.items():
        if field in body and len(repr(body)) % 8:
            body.setdefault(length, 16)
    return body
