"""News of a sequence: what has come of it that the caller was not told yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.engine.plan import TokenLogprobs

if TYPE_CHECKING:
    from quire.text.stream import TextStream


class News:
    """Tokens since the last piece, their text and log probabilities.

    Text is made of many tokens at once when they are told, which takes much less than token by token; only
    where stop strings may end it each token is read as it comes.

        tokens of the sequence  |<- prompt ->|<- num_told ->|<- num_tokens: not told ->|
        read into text          |<------------------------------->|
        text                                 |<--- told --->|<-->| unsaid, and held back by the stream
    """

    __slots__ = ("_logprobs", "_num_prompt", "_num_read", "_text", "_tokens", "_unsaid", "num_told")

    def __init__(self, *, tokens: list[int], text: TextStream | None) -> None:
        """Of a sequence with these tokens, a list that grows; `text` is None without a tokenizer."""
        self._tokens = tokens
        self.num_told = 0
        """Tokens that the caller knows, of those that came."""
        self._num_prompt = self._num_read = len(tokens)
        self._text = text
        self._unsaid = ""
        """Text of tokens that were read and not told."""
        self._logprobs: list[TokenLogprobs] = []

    @property
    def num_tokens(self) -> int:
        """Tokens that the caller does not know."""
        return len(self._tokens) - self._num_prompt - self.num_told

    @property
    def stopped(self) -> bool:
        """Whether a stop string is in the text so far."""
        return self._text is not None and self._text.stopped

    def add(self, logprobs: TokenLogprobs | None) -> None:
        """The newest token has come; it is in the list."""
        if logprobs is not None:
            self._logprobs.append(logprobs)
        if self._text is not None and self._text.may_stop:
            self._read(self._text)

    def take(self, *, last: bool) -> tuple[tuple[int, ...], str, tuple[TokenLogprobs, ...]]:
        """(tokens, text, log probabilities) of the next piece; the last brings what the stream held back."""
        tokens = tuple(self._tokens[self._num_prompt + self.num_told :])
        self.num_told += len(tokens)
        if self._text is not None:
            self._read(self._text)
            if last:
                self._unsaid += self._text.flush()
        text, self._unsaid = self._unsaid, ""
        logprobs = tuple(self._logprobs)
        self._logprobs.clear()
        return tokens, text, logprobs

    def _read(self, text: TextStream) -> None:
        if unread := self._tokens[self._num_read :]:
            self._num_read += len(unread)
            self._unsaid += text.append(unread)
