"""Calls as models of the Hermes and Qwen families write them: <tool_call>{"name": ..., "arguments": {...}}
</tool_call>, any number of them, among other text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from quire.server.tools.call_reader import CallReader, CallStatus
from quire.server.tools.tool_format import CallDelta, FunctionSchema, ToolFormat, ToolParser, json_rule

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class HermesFormat(ToolFormat):
    """Hermes 2 Pro and later, Qwen 2.5, Qwen 3."""

    def parser(self, names: frozenset[str]) -> ToolParser:
        del names  # what stands in the tags is a call, of whatever function
        return HermesParser()

    def calls_rule(self, functions: Sequence[FunctionSchema], *, parallel: bool) -> str:
        several = 'calls: call ("\\n" call)*' if parallel else "calls: call"
        return "\n".join([several, f"call: {_quoted(OPEN)} opened", *_opened_rules(functions)])

    def free_rule(self, functions: Sequence[FunctionSchema], *, parallel: bool) -> str:
        rules = ["free: begun* TEXT" if parallel else "free: begun | TEXT"]
        # The first opening tag ends a lazy lexeme: text in which it stands is never plain text.
        rules += ["begun: lead opened", f"lead[lazy]: TEXT {_quoted(OPEN)}", r"TEXT: /(.|\n)*/"]
        return "\n".join(rules + _opened_rules(functions))


def _opened_rules(functions: Sequence[FunctionSchema]) -> list[str]:
    """Of what follows the opening tag."""
    rules = ["opened: " + " | ".join(f"opened_{index}" for index in range(len(functions)))]
    for index, function in enumerate(functions):
        begin = _quoted(f'\n{{"name": {json.dumps(function.name)}, "arguments": ')
        rules.append(f"opened_{index}: {begin} {json_rule(function.parameters)} " + _quoted(f"}}\n{CLOSE}"))
    return rules


def _quoted(text: str) -> str:
    """As Lark writes a literal."""
    return json.dumps(text)


class HermesParser(ToolParser):
    """White space around calls belongs to neither content nor call."""

    def __init__(self) -> None:
        super().__init__()
        self._held = ""
        """Text not yet told: what may be the beginning of a tag, or white space that may lead to one."""
        self._reader: CallReader | None = None
        """Of the call being read."""
        self._told = False
        """Whether that call has been told of."""
        self._opening = ""
        """What came before the call that is held back until it is one."""
        self._closing = False
        """Whether a call has ended and its closing tag may come."""
        self._after_call = False
        """Whether nothing but white space has come since."""

    def feed(self, text: str) -> list[str | CallDelta]:
        found: list[str | CallDelta] = []
        self._held += text
        while self._held and self._advance(found):
            pass
        return found

    def flush(self) -> list[str | CallDelta]:
        found: list[str | CallDelta] = []
        while True:
            reader = self._reader
            if reader is None:
                rest = "" if self._closing or self._after_call else self._held
                self._held = ""
                return [*found, rest] if rest else found
            self._reader = None
            if self._told:
                return found
            # No call after all: the tag is text, and there may be whole calls in what came after it.
            found.append(self._opening)
            self._held = reader.text + self._held
            while self._held and self._advance(found):
                pass

    def _advance(self, found: list[str | CallDelta]) -> bool:
        """Make what can be made of the held text; whether to go on."""
        if self._reader is not None:
            return self._read(self._reader, found)
        if self._closing:
            return self._close()
        return self._seek(found)

    def _seek(self, found: list[str | CallDelta]) -> bool:
        """Pass on content up to the next opening tag, or to what may become one."""
        if self._after_call:
            self._held = self._held.lstrip()
            self._after_call = not self._held
        at = self._held.find(OPEN)
        if at >= 0:
            content = self._held[:at].rstrip()
            self._opening = self._held[len(content) : at + len(OPEN)]
            self._held = self._held[at + len(OPEN) :]
            self._reader, self._told = CallReader(), False
        else:
            content = self._held[: len(self._held) - _beginning(self._held, OPEN)].rstrip()
            self._held = self._held[len(content) :]
        if content:
            found.append(content)
        return at >= 0

    def _read(self, reader: CallReader, found: list[str | CallDelta]) -> bool:
        self._held = self._held[reader.feed(self._held) :]
        if reader.is_call and reader.name is not None:
            if not self._told:
                found.append(self._begin_call(reader.name))
                self._told = True
            if arguments := reader.take_arguments():
                found.append(self._arguments(arguments))
        if reader.status is CallStatus.OPEN:
            return False
        self._reader = None
        if not self._told:
            found.append(self._opening)
            self._held = reader.text + self._held
        self._closing = self._told
        return True

    def _close(self) -> bool:
        """Drop the closing tag; a model that leaves it out goes on all the same."""
        text = self._held.lstrip()
        if len(text) < len(CLOSE) and CLOSE.startswith(text):
            return False
        self._closing, self._after_call = False, True
        if text.startswith(CLOSE):
            self._held = text.removeprefix(CLOSE)
        return True


def _beginning(text: str, tag: str) -> int:
    """Length of the longest end of `text` that `tag` begins with."""
    longest = min(len(tag) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(tag[:n])), 0)
