"""/v1/responses: OpenAI's newer interface to conversations; nothing is stored."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from quire.engine.request import Request
from quire.server.http.access_log import note
from quire.server.http.answer import json_answer
from quire.server.http.context import LoadedContext, ServerContext
from quire.server.http.conversation import conversation_request
from quire.server.http.documented import answers
from quire.server.http.errors import ApiError
from quire.server.http.generation import pieces
from quire.server.http.grammar import ResponseFormat
from quire.server.http.model import ApiModel
from quire.server.http.response_input import input_messages
from quire.server.http.response_output import ResponseOutput
from quire.server.http.sampling import SamplingFields
from quire.server.http.streaming import EventStream, Last, event, unless_gone
from quire.server.http.tools import FunctionTool, NamedTool, tools_asked
from quire.server.http.trace import trace_of
from quire.server.http.usage import Usage

router = APIRouter()

_UNSUPPORTED = {
    "previous_response_id": "responses are not stored; send the conversation as input",
    "conversation": "conversations are not stored; send the conversation as input",
    "background": "responses are not made in the background",
    "prompt": "prompt templates are not stored",
}


class TextFormat(ApiModel):
    """text, json_object, or json_schema with its schema beside it."""

    type: str
    name: str | None = None
    json_schema: dict[str, Any] | bool | None = Field(default=None, alias="schema")


class TextFields(ApiModel):
    format: TextFormat | None = None


class ResponseTool(ApiModel):
    """A tool; functions are those that there are."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFields(SamplingFields):
    """The body of a request."""

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1, lt=2**31)
    text: TextFields | None = None
    tools: list[ResponseTool] | None = None
    tool_choice: str | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, Any] | None = None

    def grammar(self) -> dict[str, Any] | None:
        if self.text is None or self.text.format is None:
            return super().grammar()
        wanted = self.text.format
        schema = {"name": wanted.name, "schema": wanted.json_schema}
        format = ResponseFormat.model_validate({"type": wanted.type, "json_schema": schema})
        return self.model_copy(update={"text": None, "response_format": format}).grammar()


@router.post(
    "/v1/responses",
    responses=answers(
        {"id": str, "object": str, "created_at": int, "model": str, "status": str, "output": list},
        stream=True,
    ),
)
async def responses(fields: ResponseFields, http: HttpRequest, context: LoadedContext) -> Response:
    """Answer a conversation."""
    model = context.model(fields.model)
    _check(fields)
    tools = tools_asked(
        _functions(fields.tools or []),
        fields.tool_choice,
        context.tool_format,
        parallel=fields.parallel_tool_calls,
    )
    id = f"resp_{uuid.uuid4().hex}"
    request = await conversation_request(
        context,
        fields.model_copy(update={"n": 1}),
        id=id,
        param="input",
        messages=input_messages(fields.input, fields.instructions),
        tools=tools,
        max_tokens=fields.max_output_tokens or fields.max_tokens,
        logprobs=None,
    )
    usage = Usage(prompt_tokens=len(request.prompt_token_ids))
    output = ResponseOutput(
        response=_response(fields, id=id, model=model),
        parser=None if tools is None else tools.parser(),
        usage=usage,
    )
    note(http.scope, id=id, model=model, stream=bool(fields.stream), tenant=fields.tenant)
    if fields.stream:

        def failed(error: ApiError) -> bytes:
            return event(output.error(error), "error")

        return EventStream(_events(request, output, usage, http, context), context.config, failed)
    return json_answer(await unless_gone(http, _whole(request, output, usage, http, context)))


async def _whole(
    request: Request, output: ResponseOutput, usage: Usage, http: HttpRequest, context: ServerContext
) -> dict[str, Any]:
    asked = pieces(context.client, [request], whole=True, trace=trace_of(http.scope))
    async with contextlib.aclosing(asked) as outputs:
        async for _, piece in outputs:
            for _ in output.take(piece):
                pass  # the events are for streams; here the response itself counts
    note(http.scope, **usage.log_form())
    return output.response


async def _events(
    request: Request, output: ResponseOutput, usage: Usage, http: HttpRequest, context: ServerContext
) -> AsyncGenerator[bytes, None]:
    begun = False
    try:
        asked = pieces(context.client, [request], trace=trace_of(http.scope))
        async with contextlib.aclosing(asked) as outputs:
            async for _, piece in outputs:
                told = [] if begun else [event(each, each["type"]) for each in output.begin()]
                begun = True
                told += [event(each, each["type"]) for each in output.take(piece)]
                if piece.finish_reason is not None:
                    yield Last(b"".join(told))
                elif told:
                    yield b"".join(told)
    finally:
        note(http.scope, **usage.log_form())


def _check(fields: ResponseFields) -> None:
    extra = fields.model_extra or {}
    for name, why in _UNSUPPORTED.items():
        if extra.get(name):
            raise ApiError(400, f"{name}: {why}", param=name, code="unsupported")
    if extra.get("include"):
        raise ApiError(400, f"include={extra['include']!r}: nothing can be included", param="include")


def _functions(tools: list[ResponseTool]) -> list[FunctionTool]:
    functions: list[FunctionTool] = []
    for index, tool in enumerate(tools):
        if tool.type != "function" or not tool.name:
            raise ApiError(
                400, f"tools[{index}]: must be a function with a name, not {tool.type!r}", param="tools"
            )
        functions.append(FunctionTool.model_validate(tool.model_dump(exclude={"type"})))
    return functions


def _response(fields: ResponseFields, *, id: str, model: str) -> dict[str, Any]:
    """The response before anything was generated."""
    choice = fields.tool_choice
    return {
        "id": id,
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": fields.instructions,
        "max_output_tokens": fields.max_output_tokens,
        "metadata": fields.metadata or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": fields.parallel_tool_calls is not False,
        "previous_response_id": None,
        "store": False,
        "temperature": 1.0 if fields.temperature is None else fields.temperature,
        "text": {"format": {"type": "text"}}
        if fields.text is None
        else fields.text.model_dump(exclude_none=True, by_alias=True),
        "tool_choice": choice.model_dump(exclude_none=True)
        if isinstance(choice, NamedTool)
        else choice or "auto",
        "tools": [tool.model_dump() for tool in fields.tools or []],
        "top_p": 1.0 if fields.top_p is None else fields.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": fields.user,
    }
