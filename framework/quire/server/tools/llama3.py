"""Calls as Llama 3.1, 3.2 and 3.3 write them: an answer that is nothing but
{"name": ..., "parameters": {...}}, with <|python_tag|> before it at times.

Where the model writes several, semicolons or white space stand between them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from quire.server.tools.call_reader import CallReader, CallStatus
from quire.server.tools.tool_format import CallDelta, FunctionSchema, ToolFormat, ToolParser, json_rule

TAG = "<|python_tag|>"
_TAG, _SPACE = r"<\|python_tag\|>", r"[ \t\r\n]"
"""As regular expressions."""


class Llama3Format(ToolFormat):
    """Its models make one call a turn."""

    def parser(self, names: frozenset[str]) -> ToolParser:
        return Llama3Parser(names)

    def calls_rule(self, functions: Sequence[FunctionSchema], *, parallel: bool) -> str:
        del parallel
        rules = ["calls: " + " | ".join(f"call_{index}" for index in range(len(functions)))]
        for index, function in enumerate(functions):
            begin = f'{{"name": {json.dumps(function.name)}, "parameters": '
            rules.append(f'call_{index}: {json.dumps(begin)} {json_rule(function.parameters)} "}}"')
        return "\n".join(rules)

    def free_rule(self, functions: Sequence[FunctionSchema], *, parallel: bool) -> str:
        # An object at the very beginning may become a call at any of its keys, so that it has to be one.
        rules = [
            "free: LEAD? calls | ANSWER",
            f"LEAD: /{_SPACE}+({_TAG}{_SPACE}*)?|{_TAG}{_SPACE}*/",
            rf"ANSWER: /(.|\n)*/ & ~/{_SPACE}*({_TAG}{_SPACE}*)?\{{(.|\n)*/",
        ]
        return "\n".join([*rules, self.calls_rule(functions, parallel=parallel)])


class Llama3Parser(ToolParser):
    """An object that names none of the functions is content, and so is everything after it."""

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__()
        self._names = names
        self._held = ""
        """Text between calls, and before the first, that is not yet known to be content."""
        self._reader: CallReader | None = None
        self._told = False
        """Whether the call being read has been told of."""
        self._plain = False
        """Whether all that comes is content."""

    def feed(self, text: str) -> list[str | CallDelta]:
        found: list[str | CallDelta] = []
        while text and not self._plain:
            text = self._between(text, found) if self._reader is None else self._read(text, found)
        if text:
            found.append(text)
        return found

    def flush(self) -> list[str | CallDelta]:
        reader, self._reader = self._reader, None
        if self._told and reader is not None:
            return []
        rest = self._held + (reader.text if reader is not None else "")
        self._held = ""
        if reader is None and self._calls and not rest.strip(" \t\r\n;"):
            return []
        return [rest] if rest else []

    def _between(self, text: str, found: list[str | CallDelta]) -> str:
        """Look for the brace that opens a call; what is left of `text`."""
        for position, char in enumerate(text):
            if char == "{" and self._lead() in ("", TAG):
                self._reader, self._told = CallReader(), False
                return text[position:]
            self._held += char
            if not self._may_lead_to_call():
                self._plain = True
                found.append(self._held)
                self._held = ""
                return text[position + 1 :]
        return ""

    def _lead(self) -> str:
        """The held text without white space around it, and without the semicolons after a call."""
        return self._held.strip(" \t\r\n;" if self._calls else " \t\r\n")

    def _may_lead_to_call(self) -> bool:
        lead = self._lead()
        return lead == TAG or (TAG.startswith(lead) and self._held.endswith(lead))

    def _read(self, text: str, found: list[str | CallDelta]) -> str:
        reader = self._reader
        assert reader is not None
        text = text[reader.feed(text) :]
        broken = reader.status is CallStatus.BROKEN
        if reader.is_call and reader.name is not None:
            if reader.name in self._names and not self._told:
                found.append(self._begin_call(reader.name))
                self._told = True
                self._held = ""
            broken = broken or reader.name not in self._names
            if self._told and (arguments := reader.take_arguments()):
                found.append(self._arguments(arguments))
        if broken and not self._told:
            found.append(self._held + reader.text)
            self._held = ""
        if broken or reader.status is CallStatus.DONE:
            self._reader = None
            self._plain = broken
        return text
