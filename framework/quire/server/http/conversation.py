"""A conversation as a prompt for the engine: what chats and responses have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quire.engine.request import Request
from quire.server.http.context import ServerContext
from quire.server.http.errors import ApiError
from quire.server.http.grammar import sampling_extra
from quire.server.http.prompts import check_prompt_length, check_text_length, check_total_length
from quire.server.http.sampling import SamplingFields
from quire.server.http.tools import ToolsAsked

_RESERVED = frozenset({"messages", "tools", "add_generation_prompt"})


async def conversation_request(
    context: ServerContext,
    fields: SamplingFields,
    *,
    id: str,
    param: str,
    messages: Sequence[Mapping[str, Any]],
    tools: ToolsAsked | None,
    max_tokens: int | None,
    logprobs: int | None,
    variables: Mapping[str, Any] | None = None,
    add_generation_prompt: bool = True,
) -> Request:
    """The engine's request. Raises ApiError or UserError, naming `param`, for what cannot be served."""
    if max_tokens == 0:
        raise ApiError(400, "max_tokens=0: must be at least 1", param="max_tokens")
    for message in messages:
        check_text_length(context, message["content"], param)
    token_ids = await context.tokenizer.encode_chat(
        messages,
        tools=None if tools is None else tools.for_template(),
        add_generation_prompt=add_generation_prompt,
        variables=template_variables(variables),
    )
    grammar = fields.grammar() if tools is None else tools.grammar(fields.grammar())
    check_prompt_length(context, token_ids, param)
    check_total_length(context, token_ids, max_tokens, param=param)
    return Request(
        id=id,
        prompt_token_ids=tuple(token_ids),
        sampling=fields.sampling(
            context.client.card,
            max_tokens=max_tokens,
            n=fields.n or 1,
            logprobs=logprobs,
            extra=sampling_extra(grammar, fields.vllm_xargs, context.processors),
        ),
        tenant=fields.tenant,
        priority=fields.priority or 0,
    )


def template_variables(given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """`chat_template_kwargs`. Raises ApiError for a name that is taken."""
    if reserved := _RESERVED & set(given or {}):
        raise ApiError(
            400, f"chat_template_kwargs: {min(reserved)} has a field of its own", param="chat_template_kwargs"
        )
    return given or {}
