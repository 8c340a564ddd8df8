"""From texts to the token ids that an `Embedder` takes: prompts, pairs, and texts that are too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.errors import UserError

if TYPE_CHECKING:
    from quire.embedding.recipe import Recipe
    from quire.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinedPair:
    """Two texts in one sequence of tokens; `type_ids` say which of them a token is in."""

    token_ids: list[int]
    type_ids: list[int]


class EmbeddingTexts:
    """Needs the tokenizer and the recipe only, no model: it may live in another process than the engine."""

    def __init__(self, *, tokenizer: Tokenizer, recipe: Recipe, max_tokens: int) -> None:
        """`max_tokens`: the longest text or pair, its special tokens included (`Embedder.max_tokens`)."""
        self._tokenizer = tokenizer
        self._recipe = recipe
        self._max_tokens = max_tokens

    def encode(self, text: str, *, prompt_name: str | None = None, truncate: bool = False) -> list[int]:
        """The token ids of a text after its prompt. With `truncate` one that is too long loses its end, but
        not the special tokens around it; without, it comes as long as it is. Raises UserError.
        """
        text = self._prepared(self._recipe.prompt(prompt_name) + text)
        return self._tokenizer.encode_pair(text, max_tokens=self._max_tokens if truncate else None)[0]

    def join(self, first: str, second: str, *, truncate: bool = False) -> JoinedPair:
        """A pair as the tokenizer joins it. With `truncate` the longer of the two loses its end first."""
        token_ids, type_ids = self._tokenizer.encode_pair(
            self._prepared(first), self._prepared(second), max_tokens=self._max_tokens if truncate else None
        )
        return JoinedPair(token_ids=token_ids, type_ids=type_ids)

    def _prepared(self, text: str) -> str:
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - a user's list may hold anything
            raise UserError(f"text {text!r}: must be a string")
        return text.lower() if self._recipe.lowercase else text
