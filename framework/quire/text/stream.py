"""The text of one sequence as it is generated, ended by stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from quire.text.detokenizer import Detokenizer

if TYPE_CHECKING:
    from quire.text.tokenizer import Tokenizer


class TextStream:
    """Text deltas that never have to be taken back.

    Held back are characters whose bytes are not all there, and text that may turn out to be the beginning of
    a stop string. Of several stop strings the one that is complete first counts, and of those that end
    together the longest; so where the text is cut does not depend on how it was split into tokens. Stop
    strings are looked for in what follows the first `min_tokens` tokens.
    """

    def __init__(
        self,
        *,
        tokenizer: Tokenizer,
        stop: Sequence[str] = (),
        include_stop: bool = False,
        min_tokens: int = 0,
        skip_special_tokens: bool = True,
    ) -> None:
        self._detokenizer = Detokenizer(tokenizer=tokenizer, skip_special_tokens=skip_special_tokens)
        self._stop = tuple(stop)
        self._include_stop = include_stop
        self._unguarded = min_tokens
        """Tokens to come in whose text no stop string is looked for."""
        self._held = ""
        """Text that a stop string may begin with."""
        self._stopped = False

    @property
    def may_stop(self) -> bool:
        """Whether there are stop strings to look for."""
        return bool(self._stop)

    @property
    def stopped(self) -> bool:
        """Whether a stop string is there: the text has ended, whatever is appended."""
        return self._stopped

    def append(self, token_ids: Sequence[int]) -> str:
        """The text that became certain with these tokens."""
        if self._stopped:
            return ""
        unguarded, guarded = token_ids[: self._unguarded], token_ids[self._unguarded :]
        self._unguarded -= len(unguarded)
        text = self._detokenizer.append(unguarded)
        if guarded:
            text += self._until_stop(self._detokenizer.append(guarded))
        return text

    def flush(self) -> str:
        """The rest of the text: no token follows."""
        if self._stopped:
            return ""
        text = self._until_stop(self._detokenizer.flush()) + self._held
        self._held = ""
        return text

    def _until_stop(self, text: str) -> str:
        """Of what is held back and `text`, the part before a stop string or a possible beginning of one."""
        text = self._held + text
        self._held = ""
        found = [(start + len(stop), start) for stop in self._stop if (start := text.find(stop)) >= 0]
        if found:
            end, start = min(found)
            self._stopped = True
            return text[: end if self._include_stop else start]
        certain = len(text) - self._beginning(text)
        self._held = text[certain:]
        return text[:certain]

    def _beginning(self, text: str) -> int:
        """Length of the longest end of `text` that a stop string begins with."""
        longest = max(map(len, self._stop), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop):
                return length
        return 0
