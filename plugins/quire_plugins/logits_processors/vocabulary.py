"""A model's vocabulary as llguidance is to read it: which tokens are text, and how text becomes tokens."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llguidance import LLTokenizer

    from quire.text.tokenizer import Tokenizer


def llguidance_tokenizer(
    tokenizer: Tokenizer, *, vocab_size: int, eos_token_ids: tuple[int, ...]
) -> LLTokenizer:
    """Raises RuntimeError or ValueError, with llguidance's reason, if it cannot read the tokenizer.

    By itself llguidance takes each added token in angle brackets for one that stands in no text, masks all
    but it where its name is due, and then refuses it. But <tool_call> of Qwen's vocabularies is text, which
    models write as that one token.
    """
    from llguidance import LLTokenizer, TokenizerWrapper

    given = tokenizer.to_json()
    read = LLTokenizer(given, n_vocab=vocab_size, eos_token=list(eos_token_ids))
    words = _Words(given, read, vocab_size=vocab_size, eos_token_id=eos_token_ids[0])
    return LLTokenizer(TokenizerWrapper(words), n_vocab=vocab_size, eos_token=list(eos_token_ids))


class _Words:
    """What llguidance's `TokenizerWrapper` asks for."""

    bos_token_id = None

    def __init__(self, given: str, read: LLTokenizer, *, vocab_size: int, eos_token_id: int) -> None:
        self._given = given
        self._read = read
        self.eos_token_id = eos_token_id
        self.tokens = [read.decode_bytes([token_id]) for token_id in range(vocab_size)]
        added: list[dict[str, Any]] = json.loads(given)["added_tokens"]
        for token in added:
            if token["id"] < vocab_size:
                self.tokens[token["id"]] = token["content"].encode()
        text = {token["id"] for token in added if not token["special"]}
        self.special_token_ids = [
            token_id
            for token_id in range(vocab_size)
            if read.is_special_token(token_id) and token_id not in text
        ]
        self._special = frozenset(self.special_token_ids)

    def __call__(self, text: str) -> list[int]:
        """The tokens that a model would write, none of them special."""
        token_ids = self._read.tokenize_str(text)
        if self._special.isdisjoint(token_ids):
            return token_ids
        return self._literal.encode(text, add_special_tokens=False).ids

    @cached_property
    def _literal(self) -> Any:
        """A tokenizer that takes the names of special tokens for text."""
        from tokenizers import Tokenizer

        backend = Tokenizer.from_str(self._given)
        backend.encode_special_tokens = True
        return backend
