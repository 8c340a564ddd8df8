"""Token ids to text piece by piece, for any decoder of the tokenizers library.

A token's text depends on its neighbours: characters are split over tokens, and a decoder may strip the space
before the very first. So a window of the newest tokens is decoded anew each time; of its text, what was not
handed out yet is new:

    tokens   ... |<-------- window -------->|
    text of it   |<- given ->|<- new ->|<-->|   U+FFFD that the next token may complete
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quire.text.tokenizer import Tokenizer

_KEPT = 5
"""Tokens of context that a window starts again from: 5 bytes are more than a character has."""
_WINDOW = 20
_INCOMPLETE = 3
"""Bytes, and so tokens, that may be there of a character of UTF-8 before its last byte comes."""
_BROKEN = "\ufffd"


class Detokenizer:
    """The pieces, joined, are the text that decoding all tokens at once gives.

    Except with byte fallback (Llama 2's decoder) next to bytes that are no UTF-8 and next to U+FFFD itself:
    that decoder makes a whole run of bytes U+FFFD, characters included that are handed out already.
    """

    def __init__(self, *, tokenizer: Tokenizer, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_token_ids if skip_special_tokens else frozenset[int]()
        self._window: list[int] = []
        self._text = ""
        """Of the window."""
        self._given = 0
        """Characters of it that were handed out."""

    def append(self, token_ids: Iterable[int]) -> str:
        """The text that these tokens settle."""
        # Tokens without text must not take the place of those that are context.
        size = self._tokenizer.vocab_size
        shown = [token for token in token_ids if token not in self._skipped and token < size]
        if not shown:
            return ""
        self._window += shown
        self._text = self._decode(self._window)
        incomplete = self._incomplete()
        settled = self._text
        if incomplete:
            # A decoder with byte fallback shows all bytes before it as broken too, for the time being.
            settled = max(self._decode(self._window[:-incomplete]), settled.rstrip(_BROKEN), key=len)
        elif settled.endswith(_BROKEN):
            settled = settled[:-_INCOMPLETE]
        piece = settled[self._given :]
        self._given += len(piece)
        if len(self._window) > _WINDOW and not incomplete:
            self._shrink()
        return piece

    def flush(self) -> str:
        """What was held back; no token follows."""
        piece = self._text[self._given :]
        self._given = len(self._text)
        return piece

    def _decode(self, token_ids: list[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=False)

    def _incomplete(self) -> int:
        """How many of the newest tokens may be the beginning of a character: those after a whole text."""
        if self._text.endswith(_BROKEN):
            for count in range(1, _INCOMPLETE + 1):
                if not self._decode(self._window[:-count]).endswith(_BROKEN):
                    return count
        return 0

    def _shrink(self) -> None:
        """Forget tokens that were told whole, where the rest reads the same without them; otherwise the next
        token's turn.
        """
        kept = self._window[-_KEPT:]
        text = self._decode(kept)
        dropped = len(self._text) - len(text)
        if self._text.endswith(text) and dropped <= self._given:
            self._given -= dropped
            self._window, self._text = kept, text
