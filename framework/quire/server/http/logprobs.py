"""Log probabilities in the two forms of OpenAI's API."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from quire.engine.plan import TokenLogprobs
from quire.server.http.front_tokenizer import FrontTokenizer


def chat_logprobs(entries: Iterable[TokenLogprobs], tokenizer: FrontTokenizer) -> dict[str, Any]:
    """As chats report them: {"content": [an entry a token]}."""
    return {
        "content": [
            {
                **_chat_token(entry.token_id, entry.logprob, tokenizer),
                "top_logprobs": [
                    _chat_token(token_id, logprob, tokenizer) for token_id, logprob in entry.top
                ],
            }
            for entry in entries
        ],
        "refusal": None,
    }


def _chat_token(token_id: int, logprob: float, tokenizer: FrontTokenizer) -> dict[str, Any]:
    return {
        "token": tokenizer.token_text(token_id),
        "logprob": _finite(logprob),
        "bytes": tokenizer.token_bytes(token_id),
    }


class CompletionLogprobs:
    """As completions report them: lists that go along with the tokens, of one choice, as its tokens come."""

    def __init__(self, tokenizer: FrontTokenizer) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = tokenizer.detokenizer(skip_special_tokens=True)
        self._offset = 0

    def prompt(self, token_ids: Sequence[int], entries: Sequence[TokenLogprobs], text: str) -> dict[str, Any]:
        """Of the prompt's tokens, whose first has none. `text` is the prompt's."""
        return self._lists(token_ids, [None, *entries], self._prompt_offsets(token_ids, text))

    def skip(self, characters: int) -> None:
        """The output comes after so much text."""
        self._offset += characters

    def output(self, entries: Sequence[TokenLogprobs]) -> dict[str, Any]:
        """Of the next tokens of the output."""
        offsets: list[int] = []
        for entry in entries:
            offsets.append(self._offset)
            self._offset += len(self._detokenizer.append((entry.token_id,)))
        return self._lists([entry.token_id for entry in entries], entries, offsets)

    def _prompt_offsets(self, token_ids: Sequence[int], text: str) -> list[int]:
        """Where each token begins in the text; tokens that the tokenizer put around it have no width."""
        special = self._tokenizer.plain.special_token_ids
        detokenizer = self._tokenizer.detokenizer(skip_special_tokens=True)
        offset, offsets = 0, list[int]()
        for token_id in token_ids:
            offsets.append(min(offset, len(text)))
            token = self._tokenizer.token_text(token_id) if token_id in special else ""
            if token and text.startswith(token, offset):
                offset += len(token)
            offset += len(detokenizer.append((token_id,)))
        return offsets

    def _lists(
        self, token_ids: Sequence[int], entries: Sequence[TokenLogprobs | None], offsets: list[int]
    ) -> dict[str, Any]:
        text = self._tokenizer.token_text
        return {
            "tokens": [text(token_id) for token_id in token_ids],
            "token_logprobs": [None if entry is None else _finite(entry.logprob) for entry in entries],
            "top_logprobs": [None if entry is None else self._top(entry) for entry in entries],
            "text_offset": offsets,
        }

    def _top(self, entry: TokenLogprobs) -> dict[str, float]:
        """By text; of tokens that read the same, the most probable. The token itself is always there."""
        found: dict[str, float] = {}
        for token_id, logprob in (*entry.top, (entry.token_id, entry.logprob)):
            found.setdefault(self._tokenizer.token_text(token_id), _finite(logprob))
        return found


def joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The lists of a prompt followed by those of its output."""
    return {name: first[name] + second[name] for name in first}


def _finite(logprob: float) -> float:
    """JSON has no minus infinity: a token of probability 0 reads as OpenAI's smallest."""
    return max(logprob, -9999.0)
