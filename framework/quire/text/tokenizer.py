"""A checkpoint's tokenizer: text to token ids and back, chat messages to text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.errors import UserError
from quire.text.stream import TextStream
from quire.text.tokenizer_files import TokenizerFiles, read_tokenizer

if TYPE_CHECKING:
    from quire.text.chat_template import ChatTemplate


class Tokenizer:
    """The tokenizers library's tokenizer with its special tokens and chat templates.

    `now` tells the time to chat templates that print the date.
    """

    def __init__(self, *, files: TokenizerFiles, now: Callable[[], datetime] = datetime.now) -> None:
        self._files = files
        self._backend = files.backend
        self._now = now
        self.vocab_size: int = self._backend.get_vocab_size(with_added_tokens=True)
        """Tokens known, special and added ones included."""
        self.special_token_ids: frozenset[int] = frozenset(
            token_id for token_id, token in self._backend.get_added_tokens_decoder().items() if token.special
        )

    @classmethod
    def load(cls, directory: Path | str) -> Tokenizer:
        """The tokenizer of a model's directory. UserError if there is none, or it cannot be read."""
        return cls(files=read_tokenizer(Path(directory)))

    @property
    def bos_token_id(self) -> int | None:
        return self._special_id("bos_token")

    @property
    def eos_token_id(self) -> int | None:
        """The tokenizer's own; what ends a sequence is said by the model's configuration."""
        return self._special_id("eos_token")

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """Special tokens by name: bos_token, eos_token, and so on."""
        return self._files.special_tokens

    @property
    def chat_templates(self) -> Mapping[str, str]:
        """The Jinja text of each chat template, by name; "default" is the usual one."""
        return self._files.chat_templates

    def piece(self, token_id: int) -> str | None:
        """How the vocabulary writes a token; None if it has none of that id."""
        return self._backend.id_to_token(token_id)

    def to_json(self) -> str:
        """All of it in the format of tokenizer.json, tokens that were added elsewhere included."""
        return self._backend.to_str()

    def _special_id(self, name: str) -> int | None:
        token = self._files.special_tokens.get(name)
        return None if token is None else self._backend.token_to_id(token)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids; with the tokens that the tokenizer puts around a text, unless that is switched off.

        What `apply_chat_template` returns holds its special tokens already: switch them off there.
        """
        _check_text(text)
        return self._backend.encode(text, add_special_tokens=add_special_tokens).ids

    def encode_pair(
        self, first: str, second: str | None = None, *, max_tokens: int | None = None
    ) -> tuple[list[int], list[int]]:
        """Token ids of one text, or of two joined as the model expects, with special tokens; and for each
        token its type: which text it is in.

        `max_tokens` cuts the end of what is too long before special tokens are added: of the longer text
        first, of both to halves where both are longer. Raises UserError if it leaves no room for text.
        """
        texts = [first] if second is None else [first, second]
        for text in texts:
            _check_text(text)
        parts = [self._backend.encode(text, add_special_tokens=False) for text in texts]
        if max_tokens is not None:
            room = max_tokens - self._backend.num_special_tokens_to_add(second is not None)
            if room < len(parts):
                raise UserError(f"max_tokens={max_tokens}: special tokens leave no room for text")
            for part, length in zip(parts, _shares([len(part) for part in parts], room), strict=True):
                if length < len(part):
                    part.truncate(length)
        joined = self._backend.post_process(parts[0], parts[1] if second is not None else None)
        return joined.ids, joined.type_ids

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of these tokens. Spaces are left as the decoder makes them; unknown ids have no text."""
        return self._backend.decode(token_ids, skip_special_tokens=skip_special_tokens)

    def stream(
        self,
        *,
        stop: Sequence[str] = (),
        include_stop: bool = False,
        min_tokens: int = 0,
        skip_special_tokens: bool = True,
    ) -> TextStream:
        """A new sequence's text, token by token; the options are explained there."""
        return TextStream(
            tokenizer=self,
            stop=stop,
            include_stop=include_stop,
            min_tokens=min_tokens,
            skip_special_tokens=skip_special_tokens,
        )

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **variables: Any,
    ) -> str:
        """The prompt of a conversation, each message with its "role" and "content", ready for the answer.

        `variables` are passed to the template. UserError if there is none or it refuses the messages.
        """
        return self._chat_template.render(
            messages, add_generation_prompt=add_generation_prompt, tools=tools, **variables
        )

    @cached_property
    def _chat_template(self) -> ChatTemplate:
        from quire.text.chat_template import ChatTemplate

        return ChatTemplate(
            templates=self._files.chat_templates,
            variables=self._files.special_tokens,
            source=str(self._files.directory),
            now=self._now,
        )


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"text: character {error.start} is half of a surrogate pair, which is no text"
        ) from None


def _shares(lengths: list[int], room: int) -> list[int]:
    """How many tokens each of one or two texts keeps: the shorter one all it has, up to half of the room."""
    if sum(lengths) <= room or len(lengths) == 1:
        return [min(length, room) for length in lengths]
    short = min(min(lengths), room // 2)
    return [short, room - short] if lengths[0] <= lengths[1] else [room - short, short]
