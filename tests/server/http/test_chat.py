"""/v1/chat/completions, through openai's own client and as raw requests."""

import asyncio

import openai
import pytest
from live_server import events
from offline import asked, chat_ids

MESSAGES = [{"role": "user", "content": "What is 3 + 4?"}]
GREEDY = {"temperature": 0, "max_tokens": 24}


def expected(server, messages=MESSAGES, **sampling):
    return asked(server, chat_ids(server, messages), **({"temperature": 0.0, "max_tokens": 24} | sampling))


def test_an_answer_is_the_engines(server, sdk):
    (sample,) = expected(server)
    answer = sdk.chat.completions.create(model="demo", messages=MESSAGES, **GREEDY)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", sample.text)
    assert choice.finish_reason == sample.finish_reason.value
    assert choice.logprobs is None
    assert answer.usage.prompt_tokens == len(chat_ids(server, MESSAGES))
    assert answer.usage.completion_tokens == len(sample.token_ids)
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


@pytest.mark.parametrize(
    "content",
    [
        "What is 3 + 4?",
        [{"type": "text", "text": "What is 3 + 4?"}],
        [{"type": "text", "text": "What is "}, {"type": "text", "text": "3 + 4?"}],
        [{"type": "input_text", "text": "What is 3 + 4?"}],
    ],
)
def test_content_as_text_or_parts(server, sdk, content):
    answer = sdk.chat.completions.create(
        model="other-name", messages=[{"role": "user", "content": content}], **GREEDY
    )
    assert answer.model == "other-name"
    assert answer.choices[0].message.content == expected(server)[0].text


def test_a_longer_conversation_with_tools_that_were_called(server, sdk):
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 3}'}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "7"},
    ]
    read = [
        {"role": "system", "content": "Be brief."},
        *MESSAGES,
        {"role": "assistant", "content": ""},
        {"role": "tool", "content": "7"},
    ]
    answer = sdk.chat.completions.create(model="demo", messages=messages, tool_choice="none", **GREEDY)
    assert answer.choices[0].message.content == expected(server, read)[0].text


def test_max_completion_tokens_goes_before_max_tokens(sdk):
    answer = sdk.chat.completions.create(
        model="demo",
        messages=MESSAGES,
        max_tokens=9,
        max_completion_tokens=3,
        extra_body={"ignore_eos": True},
    )
    assert answer.usage.completion_tokens == 3
    assert answer.choices[0].finish_reason == "length"


def test_no_limit_is_what_the_model_takes(server, sdk):
    answer = sdk.chat.completions.create(model="demo", messages=MESSAGES, extra_body={"ignore_eos": True})
    assert answer.usage.total_tokens == server.engine.max_model_tokens


def test_logprobs_in_the_form_of_chats(server, sdk):
    (sample,) = expected(server, logprobs=2)
    answer = sdk.chat.completions.create(
        model="demo", messages=MESSAGES, logprobs=True, top_logprobs=2, **GREEDY
    )
    content = answer.choices[0].logprobs.content
    assert [entry.logprob for entry in content] == [entry.logprob for entry in sample.logprobs]
    assert [entry.token for entry in content] == [
        server.tokenizer.decode([token], skip_special_tokens=False) for token in sample.token_ids
    ]
    assert bytes(content[0].bytes).decode() == content[0].token
    for entry, known in zip(content, sample.logprobs, strict=True):
        assert [each.logprob for each in entry.top_logprobs] == [logprob for _, logprob in known.top]
    plain = sdk.chat.completions.create(model="demo", messages=MESSAGES, logprobs=True, **GREEDY)
    assert [entry.top_logprobs for entry in plain.choices[0].logprobs.content] == [[]] * len(content)


def test_a_stream_is_the_whole_in_pieces(server, sdk):
    (sample,) = expected(server, max_tokens=40)
    stream = sdk.chat.completions.create(
        model="demo",
        messages=MESSAGES,
        temperature=0,
        max_tokens=40,
        logprobs=True,
        stream=True,
        stream_options={"include_usage": True},
    )
    first, *chunks, last = list(stream)
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert all(chunk.choices[0].delta.role is None for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == sample.text
    reasons = [chunk.choices[0].finish_reason for chunk in (first, *chunks)]
    assert reasons == [None] * len(chunks) + [sample.finish_reason.value]
    logprobs = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs is not None]
    assert sum(len(each.content) for each in logprobs) == len(sample.token_ids)
    assert last.choices == []
    assert last.usage.completion_tokens == len(sample.token_ids)


def test_the_wire_form_of_a_stream(http):
    body = {"messages": MESSAGES, "stream": True, **GREEDY}
    with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.headers["cache-control"] == "no-cache"
        *chunks, done = events(answer.iter_lines())
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert not any("usage" in chunk for chunk in chunks)


def test_several_samples_each_with_its_role(server, http):
    fields = {"temperature": 1.0, "seed": 11, "n": 3, "max_tokens": 10}
    samples = expected(server, **fields)
    whole = http.post("/v1/chat/completions", json={"messages": MESSAGES, **fields}).json()
    assert [choice["message"]["content"] for choice in whole["choices"]] == [s.text for s in samples]
    with http.stream(
        "POST", "/v1/chat/completions", json={"messages": MESSAGES, "stream": True, **fields}
    ) as answer:
        *chunks, _ = events(answer.iter_lines())
    for index, sample in enumerate(samples):
        mine = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(choice["delta"].get("content", "") for choice in mine) == sample.text
        assert mine[-1]["finish_reason"] == sample.finish_reason.value


def test_many_at_once_are_not_mixed_up(server):
    questions = [f"What is {a} + {b}?" for a in range(6) for b in range(6)]
    messages = [[{"role": "user", "content": question}] for question in questions]
    known = [expected(server, each)[0].text for each in messages]

    async def ask(client, each) -> str:
        stream = await client.chat.completions.create(model="demo", messages=each, stream=True, **GREEDY)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            return await asyncio.gather(*(ask(client, each) for each in messages))

    assert asyncio.run(ask_all()) == known
