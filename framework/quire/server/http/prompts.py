"""Prompts in the forms that clients send: a text, texts, token ids, lists of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, StrictInt

from quire.server.http.context import ServerContext
from quire.server.http.counts import check_count
from quire.server.http.errors import ApiError

TokenId = Annotated[StrictInt, Field(ge=0, lt=2**31)]
PromptField = str | list[str] | list[TokenId] | list[list[TokenId]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """One prompt. `text` is None where the client gave token ids."""

    token_ids: tuple[int, ...]
    text: str | None = None


async def read_prompts(
    context: ServerContext, given: PromptField, *, param: str, add_special_tokens: bool = True
) -> list[Prompt]:
    """Each prompt, tokenised. Raises ApiError, naming `param`, if there is none, or for an empty or too long
    one.
    """
    prompts: list[Prompt] = []
    for each in several(context, given, param=param):
        if isinstance(each, str):
            check_text_length(context, each, param)
            token_ids = await context.tokenizer.encode(each, add_special_tokens=add_special_tokens)
            prompts.append(Prompt(token_ids=tuple(token_ids), text=each))
        else:
            prompts.append(Prompt(token_ids=tuple(each)))
        check_prompt_length(context, prompts[-1].token_ids, param)
    return prompts


def several(context: ServerContext, given: PromptField, *, param: str) -> Sequence[str | list[int]]:
    """Each of what may have been given as one alone. Raises ApiError if there is none, or too many are."""
    if isinstance(given, str):
        return [given]
    if not given:
        raise ApiError(400, f"{param}=[]: must hold at least one", param=param)
    if isinstance(given[0], int):
        return [given]  # pyright: ignore[reportReturnType] - then all are
    check_count(param, len(given), context.config.max_prompts, "max_prompts")
    return given  # pyright: ignore[reportReturnType] - pydantic has seen to it


def check_text_length(context: ServerContext, text: str, param: str) -> None:
    """Raise ApiError for a text that is too long whatever its tokens: no use in tokenising it."""
    limit = _limit(context)
    # No tokenizer has tokens of that many characters on average.
    if len(text) > 64 * limit + 1024:
        raise _too_long(f"{param}: a text of {len(text)} characters", limit, param)


def check_prompt_length(context: ServerContext, token_ids: Sequence[int], param: str) -> None:
    """Raise ApiError for a prompt without a token, or with more than are allowed, or with unknown ones."""
    if not token_ids:
        raise ApiError(400, f"{param}: is empty; at least one token is needed", param=param)
    limit = _limit(context)
    if len(token_ids) > limit:
        raise _too_long(f"{param}: {len(token_ids)} tokens", limit, param)
    largest, size = max(token_ids), context.client.card.vocab_size
    if largest >= size:
        raise ApiError(
            400,
            f"{param}: token id {largest} is outside the vocabulary, must be in 0..{size - 1}",
            param=param,
        )


def check_total_length(
    context: ServerContext, token_ids: Sequence[int], max_tokens: int | None, *, param: str
) -> None:
    """Raise ApiError if the prompt and the output asked for are longer than a sequence can be."""
    limit, wanted = context.client.card.max_model_tokens, max_tokens or 1
    if len(token_ids) + wanted > limit:
        raise ApiError(
            400,
            f"{param}: a prompt of {len(token_ids)} tokens and an output of {wanted} make "
            f"{len(token_ids) + wanted}, more than the {limit} that this model takes",
            param=param,
            code="context_length_exceeded",
        )


def _limit(context: ServerContext) -> int:
    longest = context.client.card.max_model_tokens
    configured = context.config.max_prompt_tokens
    return longest if configured is None else min(longest, configured)


def _too_long(what: str, limit: int, param: str) -> ApiError:
    return ApiError(
        400,
        f"{what}, more than the {limit} tokens that a prompt may have",
        param=param,
        code="context_length_exceeded",
    )
