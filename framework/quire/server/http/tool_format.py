"""How a family of models writes a call of a tool in its output: one small class a family.

The chat template tells the model of its tools; what it answers is text, in which calls are marked in the way
that the model was trained on. A `ToolFormat` makes a `ToolParser` for each sample, which takes the text as it
comes and tells what is content and what is a call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class CallDelta:
    """News of a call. The first of a call has its `id` and `name`; `arguments` are pieces of JSON."""

    index: int
    """Which call of the sample, from 0."""
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class ToolParser(ABC):
    """Reads one sample's text. What may be the beginning of a call is held back until that is certain."""

    @abstractmethod
    def feed(self, text: str) -> Iterable[str | CallDelta]:
        """Content (as text) and news of calls, in order, that became certain with `text`."""

    @abstractmethod
    def flush(self) -> Iterable[str | CallDelta]:
        """The rest: no text follows. A call that was cut off is content as it stands."""


class ToolFormat(ABC):
    """One family's way of writing calls."""

    @abstractmethod
    def parser(self) -> ToolParser:
        """A parser for a new sample."""
