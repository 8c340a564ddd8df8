"""Texts for models that embed or rerank, tokenised as the model's makers meant it."""

from __future__ import annotations

from collections.abc import Sequence

from quire.embedding.texts import EmbeddingTexts, JoinedPair
from quire.server.http.context import ServerContext
from quire.server.http.front_tokenizer import off_loop
from quire.server.http.prompts import PromptField, check_prompt_length, check_text_length, several


async def read_texts(context: ServerContext, given: PromptField, *, param: str) -> list[list[int]]:
    """Token ids of each text. Raises ApiError, naming `param`, if there is none, or one is too long."""
    texts = several(context, given, param=param)
    for text in texts:
        if isinstance(text, str):
            check_text_length(context, text, param)

    def encode() -> list[list[int]]:
        encoder = _encoder(context)
        return [encoder.encode(text) if isinstance(text, str) else text for text in texts]

    token_ids = await off_loop(sum(map(len, texts)), encode)
    for each in token_ids:
        check_prompt_length(context, each, param)
    return token_ids


async def read_pairs(
    context: ServerContext, first: Sequence[str], second: Sequence[str], *, param: str
) -> list[JoinedPair]:
    """Each pair of texts in one sequence. Raises ApiError, naming `param`, if one is too long."""
    for text in (*first, *second):
        check_text_length(context, text, param)

    def encode() -> list[JoinedPair]:
        encoder = _encoder(context)
        return [encoder.join(a, b) for a, b in zip(first, second, strict=True)]

    pairs = await off_loop(sum(map(len, first)) + sum(map(len, second)), encode)
    for pair in pairs:
        check_prompt_length(context, pair.token_ids, param)
    return pairs


def _encoder(context: ServerContext) -> EmbeddingTexts:
    return EmbeddingTexts(
        tokenizer=context.tokenizer.plain,
        recipe=context.recipe,
        max_tokens=context.client.card.max_model_tokens,
    )
