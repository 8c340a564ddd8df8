"""The tokenizer as the front end uses it: long texts in a thread, so that they hold up nobody else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from quire.text.detokenizer import Detokenizer
from quire.text.tokenizer import Tokenizer

T = TypeVar("T")

_SHORT = 2000
"""Characters, or tokens, that are done in place: a fraction of a millisecond."""


class FrontTokenizer:
    """Prompts to token ids, token ids to texts for people."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._texts: dict[int, str] = {}

    @property
    def plain(self) -> Tokenizer:
        """The tokenizer itself."""
        return self._tokenizer

    async def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text. Raises UserError for what is no text."""
        return await off_loop(
            len(text), lambda: self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        )

    async def decode(self, token_ids: Sequence[int]) -> str:
        """The text of these tokens, special ones included."""
        return await off_loop(
            len(token_ids), lambda: self._tokenizer.decode(token_ids, skip_special_tokens=False)
        )

    async def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Token ids of a conversation through the model's chat template. UserError if it refuses them."""

        def encode() -> list[int]:
            prompt = self._tokenizer.apply_chat_template(
                messages, tools=tools, add_generation_prompt=add_generation_prompt, **(variables or {})
            )
            return self._tokenizer.encode(prompt, add_special_tokens=False)

        return await off_loop(sum(len(str(message.get("content"))) for message in messages), encode)

    def detokenizer(self, *, skip_special_tokens: bool) -> Detokenizer:
        return Detokenizer(tokenizer=self._tokenizer, skip_special_tokens=skip_special_tokens)

    def token_text(self, token_id: int) -> str:
        """One token as text; what is no character by itself reads as U+FFFD."""
        text = self._texts.get(token_id)
        if text is None:
            # Some decoders strip the space before the very first token: the second one shows it.
            once, twice = (self._tokenizer.decode([token_id] * n, skip_special_tokens=False) for n in (1, 2))
            text = self._texts[token_id] = twice[len(once) :]
        return text

    def token_bytes(self, token_id: int) -> list[int] | None:
        """The bytes of one token; None where they are not known."""
        text = self.token_text(token_id)
        if "\ufffd" not in text:
            return list(text.encode())
        piece = self._tokenizer.piece(token_id) or ""
        if match := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", piece):  # byte fallback
            return [int(match[1], 16)]
        alphabet = _byte_alphabet()
        return [alphabet[char] for char in piece] if all(char in alphabet for char in piece) else None


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """What `work` returns; in a thread if it has that many characters or tokens to go through."""
    return work() if size <= _SHORT else await asyncio.to_thread(work)


@cache
def _byte_alphabet() -> dict[str, int]:
    """The characters in which byte-level BPE vocabularies write bytes (Radford et al., GPT-2, 2019): those of
    Latin-1 that can be printed stand for themselves, the others follow from U+0100 on, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + index): byte for index, byte in enumerate(others)
    }
