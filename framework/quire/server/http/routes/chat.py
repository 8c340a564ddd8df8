"""/v1/chat/completions: conversations answered."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from quire.engine.request import Request
from quire.server.http.access_log import note
from quire.server.http.answer import json_answer
from quire.server.http.chat_choice import ChatChoice
from quire.server.http.context import LoadedContext, ServerContext
from quire.server.http.conversation import conversation_request
from quire.server.http.counts import check_count
from quire.server.http.documented import answers
from quire.server.http.errors import ApiError
from quire.server.http.generation import pieces
from quire.server.http.messages import Message
from quire.server.http.sampling import SamplingFields
from quire.server.http.streaming import DONE, EventStream, Last, event, unless_gone
from quire.server.http.tools import NamedTool, Tool, ToolsAsked, functions_of, tools_asked
from quire.server.http.trace import trace_of
from quire.server.http.usage import Usage

router = APIRouter()


class ChatFields(SamplingFields):
    """The body of a request."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=0, lt=2**31)
    """The newer name of max_tokens; goes before it."""
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0)
    tools: list[Tool] | None = None
    tool_choice: str | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    """Variables for the model's chat template."""
    add_generation_prompt: bool | None = None
    """Whether the prompt ends where the assistant begins to speak; null: yes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """A request that has been read: what to ask the engine, and how to answer."""

    id: str
    model: str
    created: int
    fields: ChatFields
    tools: ToolsAsked | None
    request: Request

    def head(self, kind: str) -> dict[str, Any]:
        """The fields that every chunk, or the whole answer, begins with."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def choices(self, context: ServerContext) -> list[ChatChoice]:
        return [
            ChatChoice(
                index=index,
                parser=None if self.tools is None else self.tools.parser(),
                with_logprobs=bool(self.fields.logprobs),
                tokenizer=context.tokenizer,
            )
            for index in range(self.request.sampling.n)
        ]

    def usage(self) -> Usage:
        return Usage(prompt_tokens=len(self.request.prompt_token_ids))


@router.post(
    "/v1/chat/completions",
    responses=answers(
        {"id": str, "object": str, "created": int, "model": str, "choices": list, "usage": dict}, stream=True
    ),
)
async def chat_completions(fields: ChatFields, http: HttpRequest, context: LoadedContext) -> Response:
    """Answer a conversation."""
    job = await _read(fields, context)
    note(http.scope, id=job.id, model=job.model, stream=bool(fields.stream), tenant=fields.tenant)
    if fields.stream:
        return EventStream(_events(job, http, context), context.config)
    return json_answer(await unless_gone(http, _whole(job, http, context)))


async def _read(fields: ChatFields, context: ServerContext) -> _Job:
    model = context.model(fields.model)
    check_count("n", fields.n or 1, context.config.max_choices, "max_choices")
    check_count("top_logprobs", fields.top_logprobs or 0, context.config.max_logprobs, "max_logprobs")
    if fields.top_logprobs and not fields.logprobs:
        raise ApiError(400, "top_logprobs: needs logprobs to be true", param="top_logprobs")
    for name in ("functions", "function_call"):
        if (fields.model_extra or {}).get(name):
            raise ApiError(400, f"{name}: is no longer read; tools takes its place", param=name)
    tools = tools_asked(
        functions_of(fields.tools or []),
        fields.tool_choice,
        context.tool_format,
        parallel=fields.parallel_tool_calls,
    )
    id = f"chatcmpl-{uuid.uuid4().hex}"
    longest = fields.max_completion_tokens
    return _Job(
        id=id,
        model=model,
        created=int(time.time()),
        fields=fields,
        tools=tools,
        request=await conversation_request(
            context,
            fields,
            id=id,
            param="messages",
            messages=[m.for_template(f"messages[{index}]") for index, m in enumerate(fields.messages)],
            tools=tools,
            max_tokens=fields.max_tokens if longest is None else longest,
            logprobs=(fields.top_logprobs or 0) if fields.logprobs else None,
            variables=fields.chat_template_kwargs,
            add_generation_prompt=fields.add_generation_prompt is not False,
        ),
    )


async def _whole(job: _Job, http: HttpRequest, context: ServerContext) -> dict[str, Any]:
    usage, choices, found = job.usage(), job.choices(context), dict[int, dict[str, Any]]()
    asked = pieces(context.client, [job.request], whole=True, trace=trace_of(http.scope))
    async with contextlib.aclosing(asked) as outputs:
        async for _, output in outputs:
            usage.add(output)
            found[output.index] = choices[output.index].message(output)
    note(http.scope, **usage.log_form())
    return {
        **job.head("chat.completion"),
        "choices": [found[index] for index in range(len(choices))],
        "usage": usage.completion_form(),
    }


async def _events(job: _Job, http: HttpRequest, context: ServerContext) -> AsyncGenerator[bytes, None]:
    fields, usage, choices = job.fields, job.usage(), job.choices(context)
    head = job.head("chat.completion.chunk")
    chunk = head | ({"usage": None} if fields.includes_usage else {})
    living, end = len(choices), b""
    try:
        asked = pieces(context.client, [job.request], trace=trace_of(http.scope))
        async with contextlib.aclosing(asked) as outputs:
            async for _, output in outputs:
                usage.add(output)
                if fields.continuous_usage:
                    chunk["usage"] = usage.completion_form()
                events = b""
                for choice in choices[output.index].chunks(output):
                    chunk["choices"] = (choice,)
                    events += event(chunk)
                living -= output.finish_reason is not None
                if not living:
                    end = events
                elif events:
                    yield events
        if fields.includes_usage:
            end += event({**head, "choices": (), "usage": usage.completion_form()})
        yield Last(end + DONE)
    finally:
        note(http.scope, **usage.log_form())
