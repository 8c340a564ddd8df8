"""How a family of models writes a call of a tool in its output: one small class a family.

The chat template tells the model of its tools; what it answers is text, in which calls are marked in the way
that the model was trained on. A `ToolFormat` makes a `ToolParser` for each sample, which takes the text as it
comes and tells what is content and what is a call; and a grammar for outputs that must be calls.
"""

from __future__ import annotations

import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class CallDelta:
    """News of a call. The first of a call has its `id` and `name`; `arguments` are pieces of JSON."""

    index: int
    """Which call of the sample, from 0."""
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionSchema:
    """A function that may be called: its name and the JSON schema of its arguments, an object."""

    name: str
    parameters: Mapping[str, Any] = field(
        default_factory=lambda: {"type": "object", "properties": {}, "additionalProperties": False}
    )


class ToolParser(ABC):
    """Reads one sample's text. What may be the beginning of a call is held back until that is certain."""

    def __init__(self) -> None:
        self._calls = 0

    @abstractmethod
    def feed(self, text: str) -> list[str | CallDelta]:
        """Content (as text) and news of calls, in order, that became certain with `text`."""

    @abstractmethod
    def flush(self) -> list[str | CallDelta]:
        """The rest: no text follows. A call that was cut off before it had a name and arguments is content as
        it stands; of one that was cut off later, all has been told.
        """

    def _begin_call(self, name: str) -> CallDelta:
        self._calls += 1
        return CallDelta(index=self._calls - 1, id=f"call_{uuid.uuid4().hex}", name=name)

    def _arguments(self, text: str) -> CallDelta:
        """More of the latest call."""
        return CallDelta(index=self._calls - 1, arguments=text)


class ToolFormat(ABC):
    """One family's way of writing calls."""

    @abstractmethod
    def parser(self, names: frozenset[str]) -> ToolParser:
        """A parser for a new sample; functions of these names may be called."""

    @abstractmethod
    def calls_rule(self, functions: Sequence[FunctionSchema], *, parallel: bool) -> str:
        """Rules of a Lark grammar (llguidance's dialect) of which `calls` is an output that is nothing but
        valid calls: one, or with `parallel` one or more where the family's models can do that.
        """

    @abstractmethod
    def free_rule(self, functions: Sequence[FunctionSchema], *, parallel: bool) -> str:
        """Rules of which `free` is any output that has valid calls only: free text, and from where it begins
        a call, a call that `calls_rule` allows. With `parallel` there may be several, among the text.
        """


def json_rule(schema: Mapping[str, Any]) -> str:
    """What stands for a value that the schema allows in such a grammar. White space is limited, so that no
    model goes on with it for ever.
    """
    return "%json " + json.dumps({**schema, "x-guidance": {"whitespace_pattern": r"( |\n {0,20})"}})
