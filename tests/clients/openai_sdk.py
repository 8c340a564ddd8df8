"""The openai SDK, 2.x and 3.x: all that its users call, against what the engine makes offline."""

from __future__ import annotations

import asyncio
import json
from typing import Literal

from checks import Facts, equal, main
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI
from pydantic import BaseModel


class Animal(BaseModel):
    """An object of a form that the model was never shown."""

    kind: Literal["cat", "donkey", "goose"]
    legs: Literal[2, 4]
    tame: bool


TOOL = {
    "name": "look_up",
    "description": "Look an animal up.",
    "parameters": {
        "type": "object",
        "properties": {"kind": {"enum": ["cat", "goose"]}, "tame": {"type": "boolean"}},
        "required": ["kind", "tame"],
        "additionalProperties": False,
    },
}
TOOLS = [{"type": "function", "function": TOOL}]


def sdk(facts: Facts) -> OpenAI:
    return OpenAI(base_url=f"{facts.url}/v1", api_key="none", max_retries=0, timeout=120)


def asynchronous(facts: Facts) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{facts.url}/v1", api_key="none", max_retries=0, timeout=120)


def greedy(facts: Facts) -> dict:
    return {"model": facts.model, "temperature": 0, "max_tokens": facts.max_tokens}


def models(facts: Facts) -> None:
    equal([each.id for each in sdk(facts).models.list()], [facts.model])
    equal(sdk(facts).models.retrieve(facts.model).object, "model")


def completion(facts: Facts) -> None:
    answer = sdk(facts).completions.create(prompt=facts.prompt, **greedy(facts))
    equal(answer.choices[0].text, facts.completion)
    equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)


def completion_stream(facts: Facts) -> None:
    stream = sdk(facts).completions.create(prompt=facts.prompt, stream=True, **greedy(facts))
    pieces = [chunk.choices[0].text for chunk in stream]
    equal("".join(pieces), facts.completion)
    assert len(pieces) > 1


def chat(facts: Facts) -> None:
    answer = sdk(facts).chat.completions.create(messages=facts.messages, **greedy(facts))
    equal(answer.choices[0].message.content, facts.reply)
    equal(answer.choices[0].message.role, "assistant")
    equal(answer.choices[0].finish_reason, "stop")


def chat_stream(facts: Facts) -> None:
    stream = list(
        sdk(facts).chat.completions.create(
            messages=facts.messages, stream=True, stream_options={"include_usage": True}, **greedy(facts)
        )
    )
    equal("".join(chunk.choices[0].delta.content or "" for chunk in stream[:-1]), facts.reply)
    equal(stream[-1].choices, [])
    assert stream[-1].usage.completion_tokens > 0


def chat_stream_helper(facts: Facts) -> None:
    with sdk(facts).chat.completions.stream(messages=facts.messages, **greedy(facts)) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    equal("".join(deltas), facts.reply)
    equal(final.choices[0].message.content, facts.reply)


def many_at_once(facts: Facts) -> None:
    async def one(client: AsyncOpenAI, streams: bool) -> str:
        answer = await client.chat.completions.create(
            messages=facts.messages, stream=streams, **greedy(facts)
        )
        if not streams:
            return answer.choices[0].message.content
        return "".join([chunk.choices[0].delta.content or "" async for chunk in answer])

    async def all_of_them() -> list[str]:
        async with asynchronous(facts) as client:
            return await asyncio.gather(*(one(client, number % 2 == 0) for number in range(16)))

    equal(asyncio.run(all_of_them()), [facts.reply] * 16)


def samples(facts: Facts) -> None:
    def draw() -> list[str]:
        answer = sdk(facts).completions.create(
            model=facts.model, prompt=facts.prompt, n=3, seed=11, temperature=0.9, max_tokens=12
        )
        equal([choice.index for choice in answer.choices], [0, 1, 2])
        return [choice.text for choice in answer.choices]

    first = draw()
    equal(draw(), first)
    assert len(set(first)) > 1


def logprobs(facts: Facts) -> None:
    answer = sdk(facts).chat.completions.create(
        messages=facts.messages, logprobs=True, top_logprobs=2, **greedy(facts)
    )
    entries = answer.choices[0].logprobs.content
    equal(len(entries), answer.usage.completion_tokens)
    for entry in entries:
        equal(len(entry.top_logprobs), 2)
        assert entry.logprob <= 0
        assert entry.logprob >= entry.top_logprobs[0].logprob - 1e-6, "greedy takes the likeliest"
    answer = sdk(facts).completions.create(prompt=facts.prompt, logprobs=2, echo=True, **greedy(facts))
    equal(answer.choices[0].text, facts.prompt + facts.completion)
    equal(answer.choices[0].logprobs.token_logprobs[0], None)
    equal(len(answer.choices[0].logprobs.tokens), answer.usage.total_tokens)


def fields_of_vllm(facts: Facts) -> None:
    answer = sdk(facts).chat.completions.create(
        messages=facts.messages,
        extra_body={"ignore_eos": True, "min_p": 0.1, "top_k": 5, "repetition_penalty": 1.1},
        **greedy(facts),
    )
    equal(answer.usage.completion_tokens, facts.max_tokens)


def embeddings(facts: Facts) -> None:
    client = OpenAI(base_url=f"{facts.embedding_url}/v1", api_key="none", max_retries=0)
    for options in ({}, {"encoding_format": "float"}):  # the default is base64
        answer = client.embeddings.create(model=facts.embedding_model, input=facts.texts, **options)
        facts.check_vectors([each.embedding for each in answer.data])
    one = client.embeddings.create(model=facts.embedding_model, input=facts.texts[0], dimensions=16)
    vector = one.data[0].embedding
    equal(len(vector), 16)
    assert abs(sum(number * number for number in vector) - 1) < 1e-4


def tools(facts: Facts) -> None:
    answer = sdk(facts).chat.completions.create(
        model=facts.model, messages=facts.messages, tools=TOOLS, tool_choice="required", temperature=0
    )
    equal(answer.choices[0].finish_reason, "tool_calls")
    (call,) = answer.choices[0].message.tool_calls
    _check_call(call.function.name, call.function.arguments)
    history = [
        *facts.messages,
        answer.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "brown"},
    ]
    after = sdk(facts).chat.completions.create(messages=history, tools=TOOLS, **greedy(facts))
    assert after.choices[0].finish_reason


def tools_stream(facts: Facts) -> None:
    stream = sdk(facts).chat.completions.create(
        model=facts.model,
        messages=facts.messages,
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": TOOL["name"]}},
        temperature=0,
        stream=True,
    )
    deltas = [call for chunk in stream for call in chunk.choices[0].delta.tool_calls or []]
    equal({delta.index for delta in deltas}, {0})
    assert deltas[0].id
    _check_call(deltas[0].function.name, "".join(delta.function.arguments or "" for delta in deltas))


def _check_call(name: str, arguments: str) -> None:
    equal(name, TOOL["name"])
    given = json.loads(arguments)
    equal(set(given), {"kind", "tame"})
    assert given["kind"] in ("cat", "goose")
    assert isinstance(given["tame"], bool)


def parse(facts: Facts) -> None:
    answer = sdk(facts).chat.completions.parse(
        model=facts.model, messages=facts.messages, response_format=Animal, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, Animal)


def parse_stream(facts: Facts) -> None:
    with sdk(facts).chat.completions.stream(
        model=facts.model, messages=facts.messages, response_format=Animal, temperature=0
    ) as stream:
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Animal)


def json_object(facts: Facts) -> None:
    answer = sdk(facts).chat.completions.create(
        model=facts.model,
        messages=facts.messages,
        response_format={"type": "json_object"},
        temperature=0,
        max_tokens=200,
    )
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)
    else:
        assert answer.choices[0].message.content.lstrip().startswith("{")


def responses(facts: Facts) -> None:
    fields = {"model": facts.model, "temperature": 0, "max_output_tokens": facts.max_tokens}
    equal(sdk(facts).responses.create(input=facts.question, **fields).output_text, facts.reply)
    with sdk(facts).responses.stream(input=facts.question, **fields) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    equal("".join(deltas), facts.reply)
    equal(final.output_text, facts.reply)


def responses_parse(facts: Facts) -> None:
    answer = sdk(facts).responses.parse(
        model=facts.model, input=facts.question, text_format=Animal, temperature=0
    )
    assert isinstance(answer.output_parsed, Animal)


def responses_tools(facts: Facts) -> None:
    answer = sdk(facts).responses.create(
        model=facts.model,
        input=facts.question,
        tools=[{"type": "function", **TOOL}],
        tool_choice="required",
        temperature=0,
    )
    (call,) = [item for item in answer.output if item.type == "function_call"]
    _check_call(call.name, call.arguments)


def errors(facts: Facts) -> None:
    try:
        sdk(facts).chat.completions.create(model="another", messages=facts.messages)
    except NotFoundError as error:
        equal((error.code, error.param), ("model_not_found", "model"))
    else:
        raise AssertionError("a model that is not served was answered for")
    try:
        sdk(facts).chat.completions.create(model=facts.model, messages=facts.messages, temperature=-1)
    except BadRequestError as error:
        equal(error.param, "temperature")
    else:
        raise AssertionError("a temperature of -1 was taken")


if __name__ == "__main__":
    main(
        "openai",
        {
            "models": models,
            "completions": completion,
            "completions, streamed": completion_stream,
            "chat": chat,
            "chat, streamed": chat_stream,
            "chat, .stream()": chat_stream_helper,
            "16 at once (async)": many_at_once,
            "n and seed": samples,
            "logprobs, both forms": logprobs,
            "vLLM's fields in extra_body": fields_of_vllm,
            "embeddings": embeddings,
            "tools": tools,
            "tools, streamed": tools_stream,
            "structured: .parse": parse,
            "structured: .stream()": parse_stream,
            "json_object": json_object,
            "responses, whole and streamed": responses,
            "responses.parse": responses_parse,
            "responses, tools": responses_tools,
            "errors": errors,
        },
    )
