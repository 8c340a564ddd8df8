"""/v1/completions: prompts continued."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from quire.engine.outputs import SequenceOutput
from quire.engine.request import Request, SamplingParams
from quire.server.http.access_log import note
from quire.server.http.answer import json_answer
from quire.server.http.completion_choice import CompletionChoice, mean_logprob
from quire.server.http.context import LoadedContext, ServerContext
from quire.server.http.counts import check_count
from quire.server.http.documented import answers
from quire.server.http.errors import ApiError
from quire.server.http.generation import pieces
from quire.server.http.grammar import sampling_extra
from quire.server.http.prompts import Prompt, PromptField, check_total_length, read_prompts
from quire.server.http.sampling import SamplingFields
from quire.server.http.streaming import DONE, EventStream, Last, event, unless_gone
from quire.server.http.trace import trace_of
from quire.server.http.usage import Usage

router = APIRouter()

_DEFAULT_MAX_TOKENS = 16  # OpenAI's


class CompletionFields(SamplingFields):
    """The body of a request."""

    prompt: PromptField
    best_of: int | None = Field(default=None, ge=1)
    """Samples to draw, of which the n with the highest mean log probability are returned."""
    logprobs: int | None = Field(default=None, ge=0)
    echo: bool | None = None
    suffix: str | None = None
    add_special_tokens: bool | None = None
    """Whether the tokenizer puts its own tokens around a prompt given as text; null: yes."""

    @property
    def samples(self) -> int:
        """Samples to return of each prompt."""
        return self.n or 1

    @property
    def generates(self) -> bool:
        """False where only the prompt is wanted; what the engine generates all the same is dropped."""
        return self.max_tokens != 0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """A request that has been read: what to ask the engine, and how to answer."""

    head: dict[str, Any]
    """The fields that every chunk and the whole answer begin with."""
    fields: CompletionFields
    prompts: list[Prompt]
    echoes: list[str | None]
    """What comes before each prompt's output."""
    requests: list[Request]

    def choice(self, prompt: int, index: int, context: ServerContext) -> CompletionChoice:
        return CompletionChoice(
            index=index,
            prompt=self.prompts[prompt],
            echo=self.echoes[prompt],
            generates=self.fields.generates,
            with_logprobs=self.fields.logprobs is not None,
            tokenizer=context.tokenizer,
        )

    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=sum(len(prompt.token_ids) for prompt in self.prompts),
            counts_output=self.fields.generates,
        )


@router.post(
    "/v1/completions",
    responses=answers(
        {"id": str, "object": str, "created": int, "model": str, "choices": list, "usage": dict}, stream=True
    ),
)
async def completions(fields: CompletionFields, http: HttpRequest, context: LoadedContext) -> Response:
    """Continue prompts."""
    job = await _read(fields, context)
    note(
        http.scope,
        id=job.head["id"],
        model=job.head["model"],
        stream=bool(fields.stream),
        tenant=fields.tenant,
    )
    if fields.stream:
        return EventStream(_events(job, http, context), context.config)
    return json_answer(await unless_gone(http, _whole(job, http, context)))


async def _read(fields: CompletionFields, context: ServerContext) -> _Job:
    model = context.model(fields.model)
    _check(fields, context)
    sampling = _sampling(fields, context)
    prompts = await read_prompts(
        context, fields.prompt, param="prompt", add_special_tokens=fields.add_special_tokens is not False
    )
    echoes: list[str | None] = []
    for prompt in prompts:
        check_total_length(context, prompt.token_ids, sampling.max_tokens, param="prompt")
        text = prompt.text
        if fields.echo and text is None:
            text = await context.tokenizer.decode(prompt.token_ids)
        echoes.append(text if fields.echo else None)
    id = f"cmpl-{uuid.uuid4().hex}"
    return _Job(
        head={"id": id, "object": "text_completion", "created": int(time.time()), "model": model},
        fields=fields,
        prompts=prompts,
        echoes=echoes,
        requests=[
            Request(
                id=f"{id}-{index}",
                prompt_token_ids=prompt.token_ids,
                sampling=sampling,
                tenant=fields.tenant,
                priority=fields.priority or 0,
            )
            for index, prompt in enumerate(prompts)
        ],
    )


def _check(fields: CompletionFields, context: ServerContext) -> None:
    n, best_of = fields.samples, fields.best_of or fields.samples
    check_count("n", n, context.config.max_choices, "max_choices")
    check_count("best_of", best_of, context.config.max_choices, "max_choices")
    check_count("logprobs", fields.logprobs or 0, context.config.max_logprobs, "max_logprobs")
    if best_of < n:
        raise ApiError(400, f"best_of={best_of}: must be at least n={n}", param="best_of")
    if fields.stream and best_of > n:
        raise ApiError(
            400, "best_of: which samples are best is known at the end; it cannot be streamed", param="best_of"
        )
    if not fields.generates and not fields.echo:
        raise ApiError(400, "max_tokens=0: leaves nothing to answer without echo", param="max_tokens")
    if fields.suffix:
        raise ApiError(
            400, "suffix: text cannot be inserted before a suffix", param="suffix", code="unsupported"
        )


def _sampling(fields: CompletionFields, context: ServerContext) -> SamplingParams:
    best_of = fields.best_of or fields.samples
    ranked = best_of > fields.samples
    sampling = fields.sampling(
        context.client.card,
        max_tokens=_DEFAULT_MAX_TOKENS if fields.max_tokens is None else max(1, fields.max_tokens),
        n=best_of,
        logprobs=0 if fields.logprobs is None and ranked else fields.logprobs,
        extra=sampling_extra(fields.grammar(), fields.vllm_xargs, context.processors),
    )
    return replace(sampling, prompt_logprobs=fields.logprobs) if fields.echo else sampling


async def _whole(job: _Job, http: HttpRequest, context: ServerContext) -> dict[str, Any]:
    usage = job.usage()
    drawn: list[list[SequenceOutput]] = [[] for _ in job.requests]
    asked = pieces(context.client, job.requests, whole=True, trace=trace_of(http.scope))
    async with contextlib.aclosing(asked) as outputs:
        async for prompt, output in outputs:
            usage.add(output)
            drawn[prompt].append(output)
    choices: list[dict[str, Any] | None] = []
    for prompt, samples in enumerate(drawn):
        if len(samples) > job.fields.samples:
            samples = sorted(samples, key=mean_logprob, reverse=True)[: job.fields.samples]
        else:
            samples = sorted(samples, key=lambda output: output.index)
        choices += [job.choice(prompt, len(choices) + i, context).piece(s) for i, s in enumerate(samples)]
    note(http.scope, **usage.log_form())
    return {**job.head, "choices": choices, "usage": usage.completion_form()}


async def _events(job: _Job, http: HttpRequest, context: ServerContext) -> AsyncGenerator[bytes, None]:
    fields, usage, n = job.fields, job.usage(), job.fields.samples
    choices = [job.choice(index // n, index, context) for index in range(len(job.prompts) * n)]
    head = job.head | ({"usage": None} if fields.includes_usage else {})
    living, end = len(choices), b""
    try:
        asked = pieces(context.client, job.requests, trace=trace_of(http.scope))
        async with contextlib.aclosing(asked) as outputs:
            async for prompt, output in outputs:
                usage.add(output)
                choice = choices[prompt * n + output.index].piece(output)
                if choice is not None:
                    if fields.continuous_usage:
                        head["usage"] = usage.completion_form()
                    head["choices"] = (choice,)
                    living -= output.finish_reason is not None
                    if living:
                        yield event(head)
                    else:
                        end = event(head)
        if fields.includes_usage:
            end += event({**job.head, "choices": (), "usage": usage.completion_form()})
        yield Last(end + DONE)
    finally:
        note(http.scope, **usage.log_form())
