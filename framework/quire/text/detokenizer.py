"""Token ids to text piece by piece, for any decoder of the tokenizers library.

A token's text depends on its neighbours: characters are split over tokens, and a decoder may strip the space
before the very first. So a window of the newest tokens is decoded anew each time; of its text, what was not
handed out yet is new:

    tokens   ... |<------- window ------->|
    text of it   |<-- given -->|<- new ->|<- unsettled ->|     U+FFFD that the next token may complete
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quire.text.tokenizer import Tokenizer

_KEPT = 5
"""Tokens of context that a window starts again from: 5 bytes are more than a character has."""
_WINDOW = 20
_UNSETTLED = 3
"""A character of UTF-8 has 4 bytes: so many may be there, each shown as U+FFFD, before the last comes."""


class Detokenizer:
    """The pieces, joined, are the text that decoding all tokens at once gives.

    Except where a decoder with byte fallback meets bytes that are no UTF-8 right behind a complete character
    of bytes: decoded at once it shows that character as U+FFFD too, but then it is handed out already.
    """

    def __init__(self, *, tokenizer: Tokenizer, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_token_ids if skip_special_tokens else frozenset[int]()
        self._window: list[int] = []
        self._text = ""
        self._given = 0

    def append(self, token_ids: Iterable[int]) -> str:
        """The text that these tokens settle."""
        # Tokens without text must not take the place of those that are context.
        size = self._tokenizer.vocab_size
        shown = [token for token in token_ids if token not in self._skipped and token < size]
        if not shown:
            return ""
        self._window += shown
        self._text = self._tokenizer.decode(self._window, skip_special_tokens=False)
        end = len(self._text)
        while end > max(self._given, len(self._text) - _UNSETTLED) and self._text[end - 1] == "\ufffd":
            end -= 1
        piece = self._text[self._given : end]
        self._given = max(self._given, end)
        if len(self._window) > _WINDOW:
            self._shrink()
        return piece

    def flush(self) -> str:
        """What was held back; no token follows."""
        piece = self._text[self._given :]
        self._given = len(self._text)
        return piece

    def _shrink(self) -> None:
        """Forget tokens, where the rest reads the same without them; otherwise the next token's turn."""
        kept = self._window[-_KEPT:]
        text = self._tokenizer.decode(kept, skip_special_tokens=False)
        given = self._given - (len(self._text) - len(text))
        if given >= 0 and self._text.endswith(text):
            self._window, self._text, self._given = kept, text, given
