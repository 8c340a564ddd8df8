"""Reads one call, {"name": ..., "arguments": {...}}, from JSON that comes in pieces.

The arguments are told as the model wrote them, piece by piece, from where it is certain that there is a call:
its name is known and arguments have begun.
"""

from __future__ import annotations

import enum
import json

_SPACE = " \t\r\n"
_ARGUMENTS = ("arguments", "parameters")


class CallStatus(enum.Enum):
    """`OPEN` wants more text; after `DONE` (the object is closed) and `BROKEN` it reads no more."""

    OPEN = "open"
    DONE = "done"
    BROKEN = "broken"


class _Expect(enum.Enum):
    """What comes next directly within the object."""

    OBJECT = enum.auto()
    FIRST_KEY = enum.auto()
    KEY = enum.auto()
    COLON = enum.auto()
    VALUE = enum.auto()
    NEXT = enum.auto()


class CallReader:
    """Give it text from the opening brace on. `text` is all that it took."""

    def __init__(self) -> None:
        self.status = CallStatus.OPEN
        self.text = ""
        self.name: str | None = None
        self._expect = _Expect.OBJECT
        self._key = ""
        self._start: int | None = None
        """Where in `text` the key or value begins that is being read."""
        self._depth = 0
        """Brackets open within it."""
        self._in_string = False
        self._escaped = False
        self._arguments: tuple[int, int | None] | None = None
        """Where in `text` the arguments begin, and end if they have."""
        self._encoded: str | None = None
        """The arguments, if they were written as a string that holds JSON."""
        self._told = 0
        """Characters of the arguments that were handed out."""

    @property
    def is_call(self) -> bool:
        """Whether it is certain that this is a call: later text may spoil it, but not undo it."""
        if self.name is None:
            return False
        return self._arguments is not None or self._encoded is not None or self.status is CallStatus.DONE

    @property
    def is_broken(self) -> bool:
        return self.status is CallStatus.BROKEN

    def feed(self, text: str) -> int:
        """Read; how many characters were taken. Fewer than there are once the status is no longer OPEN."""
        for taken, char in enumerate(text):
            if self.status is not CallStatus.OPEN:
                return taken
            self._take(char)
            if self.is_broken:
                return taken
            self.text += char
        return len(text)

    def take_arguments(self) -> str:
        """What of the arguments is new; "{}" of a call that was closed without any."""
        if self._encoded is not None:
            piece = self._encoded[self._told :]
        elif self._arguments is not None:
            start, end = self._arguments
            piece = self.text[start + self._told : end]
        else:
            piece = "{}"[self._told :] if self.status is CallStatus.DONE else ""
        self._told += len(piece)
        return piece

    def _take(self, char: str) -> None:
        """Look at the next character, which stands at the end of `text`."""
        if self._start is not None:
            self._inside(char)
        elif char not in _SPACE:
            self._between(char)

    def _between(self, char: str) -> None:
        match self._expect, char:
            case _Expect.OBJECT, "{":
                self._expect = _Expect.FIRST_KEY
            case ((_Expect.FIRST_KEY | _Expect.KEY), '"'):
                self._begin(char)
            case _Expect.COLON, ":":
                self._expect = _Expect.VALUE
            case _Expect.VALUE, _ if char not in ",:]}":
                self._begin(char)
            case _Expect.NEXT, ",":
                self._expect = _Expect.KEY
            case ((_Expect.FIRST_KEY | _Expect.NEXT), "}"):
                self.status = CallStatus.DONE if self.name is not None else CallStatus.BROKEN
            case _:
                self.status = CallStatus.BROKEN

    def _begin(self, char: str) -> None:
        self._start = len(self.text)
        self._depth = 1 if char in "{[" else 0
        self._in_string = char == '"'
        self._escaped = False
        if self._expect is _Expect.VALUE and self._key in _ARGUMENTS and char == "{":
            if self._arguments is not None or self._encoded is not None:
                self.status = CallStatus.BROKEN
            else:
                self._arguments = (self._start, None)

    def _inside(self, char: str) -> None:
        """Within a key or a value."""
        if self._in_string:
            if self._escaped:
                self._escaped = False
            elif char == "\\":
                self._escaped = True
            elif char == '"':
                self._in_string = False
                if not self._depth:
                    self._end(with_char=char)
        elif char == '"':
            self._in_string = True
        elif char in "{[":
            self._depth += 1
        elif char in "}]" and self._depth:
            self._depth -= 1
            if not self._depth:
                self._end(with_char=char)
        elif not self._depth and char in ",}" + _SPACE:  # a number, true, false or null
            self._end(with_char="")
            self._take(char)

    def _end(self, *, with_char: str) -> None:
        """A key or value has ended, with this last character, or before it."""
        assert self._start is not None
        start, self._start = self._start, None
        whole = self.text[start:] + with_char
        if self._expect in (_Expect.FIRST_KEY, _Expect.KEY):
            self._key = self._string(whole) or ""
            self._expect = _Expect.COLON
            return
        self._expect = _Expect.NEXT
        if self._key == "name":
            name = self._string(whole)
            if self.name is not None or not name:
                self.status = CallStatus.BROKEN
            else:
                self.name = name
        elif self._key in _ARGUMENTS and self._arguments == (start, None):
            self._arguments = (start, start + len(whole))
        elif self._key in _ARGUMENTS and whole != "null":
            self._read_encoded(whole)

    def _read_encoded(self, whole: str) -> None:
        """Arguments that are no object: a string that holds one, or a mistake."""
        text = self._string(whole)
        if text is None or not text.lstrip().startswith("{") or self._arguments or self._encoded is not None:
            self.status = CallStatus.BROKEN
        else:
            self._encoded = text

    def _string(self, whole: str) -> str | None:
        """A JSON string's value; None (and the status BROKEN) if it is none."""
        try:
            value = json.loads(whole, strict=False)
        except ValueError:
            value = None
        if not isinstance(value, str):
            self.status = CallStatus.BROKEN
            return None
        return value
