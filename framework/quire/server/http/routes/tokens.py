"""/tokenize, /detokenize and /tokenizer_info: the model's tokenizer, for clients that count tokens."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field, StrictInt
from starlette.responses import Response

from quire.server.http.answer import json_answer
from quire.server.http.context import Context, LoadedContext
from quire.server.http.conversation import template_variables
from quire.server.http.documented import answers
from quire.server.http.errors import ApiError
from quire.server.http.messages import Message
from quire.server.http.model import ApiModel
from quire.server.http.prompts import check_text_length
from quire.server.http.tools import Tool, functions_of

router = APIRouter()


class TokenizeFields(ApiModel):
    """A text as `prompt`, or a conversation as `messages`."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = Field(default=None, min_length=1)
    tools: list[Tool] | None = None
    add_special_tokens: bool | None = None
    """Whether the tokenizer puts its own tokens around the text; null: yes."""
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    return_token_strs: bool | None = None
    """Answer with each token's text, too."""


class DetokenizeFields(ApiModel):
    """Token ids."""

    model: str | None = None
    tokens: list[Annotated[StrictInt, Field(ge=0, lt=2**31)]]


@router.post("/tokenize", responses=answers({"tokens": list, "count": int, "max_model_len": int}))
async def tokenize(fields: TokenizeFields, context: LoadedContext) -> Response:
    """The token ids of a text, or of a conversation as the model's chat template writes it."""
    context.model(fields.model)
    if (fields.prompt is None) == (fields.messages is None):
        raise ApiError(400, "prompt: give either prompt or messages", param="prompt")
    if fields.prompt is not None:
        check_text_length(context, fields.prompt, "prompt")
        token_ids = await context.tokenizer.encode(
            fields.prompt, add_special_tokens=fields.add_special_tokens is not False
        )
    else:
        messages = [m.for_template(f"messages[{i}]") for i, m in enumerate(fields.messages or [])]
        tools = [function.for_template() for function in functions_of(fields.tools or [])]
        token_ids = await context.tokenizer.encode_chat(
            messages,
            tools=tools or None,
            add_generation_prompt=fields.add_generation_prompt is not False,
            variables=template_variables(fields.chat_template_kwargs),
        )
    answer: dict[str, Any] = {
        "tokens": token_ids,
        "count": len(token_ids),
        "max_model_len": context.client.card.max_model_tokens,
    }
    if fields.return_token_strs:
        answer["token_strs"] = [context.tokenizer.token_text(token_id) for token_id in token_ids]
    return json_answer(answer)


@router.post("/detokenize", responses=answers({"prompt": str}))
async def detokenize(fields: DetokenizeFields, context: Context) -> Response:
    """The text of token ids, special tokens included."""
    context.model(fields.model)
    size = context.tokenizer.plain.vocab_size
    if fields.tokens and max(fields.tokens) >= size:
        raise ApiError(
            400,
            f"tokens: {max(fields.tokens)} is outside the vocabulary, must be in 0..{size - 1}",
            param="tokens",
        )
    return json_answer({"prompt": await context.tokenizer.decode(fields.tokens)})


@router.get("/tokenizer_info", responses=answers({"vocab_size": int}))
async def tokenizer_info(context: LoadedContext) -> Response:
    """Special tokens and chat template, as tokenizer_config.json has them."""
    tokenizer = context.tokenizer.plain
    return json_answer(
        {
            "bos_token": None,
            "eos_token": None,
            "pad_token": None,
            "unk_token": None,
            **tokenizer.special_tokens,
            "chat_template": tokenizer.chat_templates.get("default"),
            "model_max_length": context.client.card.max_model_tokens,
            "vocab_size": tokenizer.vocab_size,
        }
    )
