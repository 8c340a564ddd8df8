"""Calls of tools, forced by a grammar: the bundled model knows of none."""

import itertools
import json

import httpx
import jsonschema
import openai
import pydantic
import pytest
from live_server import LiveServer, events

from quire.server.tools.choose import ToolFormatName

HI = [{"role": "user", "content": "Hi"}]
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Ulm", "Köln"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "Tell it.", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "now"}},
]
SCHEMAS = {"weather": WEATHER, "now": {"type": "object", "maxProperties": 0}}
NAMED = {"type": "function", "function": {"name": "weather"}}


@pytest.fixture(scope="module", params=[ToolFormatName.hermes, ToolFormatName.llama3])
def tool_server(request, tmp_path_factory):
    with LiveServer(tmp_path_factory.mktemp("tools"), tool_format=request.param) as live:
        yield live


@pytest.fixture
def tool_http(tool_server):
    with httpx.Client(base_url=tool_server.url, timeout=60) as client:
        yield client


@pytest.fixture
def tool_sdk(tool_server):
    with openai.OpenAI(base_url=f"{tool_server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def check_call(name: str, arguments: str) -> None:
    jsonschema.validate(json.loads(arguments), SCHEMAS[name])


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_calls_that_must_be_made_are_valid(tool_sdk, choice):
    answer = tool_sdk.chat.completions.create(
        model="demo",
        messages=HI,
        tools=TOOLS,
        tool_choice=choice,
        parallel_tool_calls=False,
        temperature=1.0,
        seed=2,
        n=4,
        max_tokens=200,
    )
    for each in answer.choices:
        assert each.finish_reason == "tool_calls"
        assert each.message.content is None
        (call,) = each.message.tool_calls
        check_call(call.function.name, call.function.arguments)
        assert choice == "required" or call.function.name == "weather"


def test_a_stream_of_calls(tool_http):
    body = {"messages": HI, "tools": TOOLS, "tool_choice": "required", "max_tokens": 400, "temperature": 1.0}
    several = 0
    for seed in range(4):
        with tool_http.stream(
            "POST", "/v1/chat/completions", json={**body, "seed": seed, "stream": True}
        ) as answer:
            *chunks, done = events(answer.iter_lines())
        assert done == "[DONE]"
        choices = [chunk["choices"][0] for chunk in chunks]
        assert choices[0]["delta"] == {"role": "assistant", "content": ""}
        calls: list[dict] = []
        for delta in itertools.chain.from_iterable(c["delta"].get("tool_calls", []) for c in choices[1:]):
            if "id" in delta:
                assert delta["index"] == len(calls)
                assert delta["type"] == "function"
                assert delta["function"]["arguments"] == "", "the name comes first"
                calls.append({"name": delta["function"]["name"], "arguments": ""})
            else:
                assert delta["index"] == len(calls) - 1
                calls[-1]["arguments"] += delta["function"]["arguments"]
        assert not any(choice["delta"].get("content") for choice in choices)
        assert [c["finish_reason"] for c in choices[:-1]] == [None] * (len(choices) - 1)
        if choices[-1]["finish_reason"] == "tool_calls":
            assert calls
            for call in calls:
                check_call(**call)
        several += sum(len(choice["delta"].get("tool_calls", [])) for choice in choices)
    assert several > 8, "arguments come in pieces"


def test_a_response_that_calls(tool_sdk):
    tools = [{"type": "function", **tool["function"]} for tool in TOOLS[:1]]
    for choice in ("required", {"type": "function", "name": "weather"}):
        answer = tool_sdk.responses.create(
            model="demo",
            input="Hi",
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=False,
            max_output_tokens=300,
        )
        (call,) = answer.output
        assert (call.type, call.name, answer.status) == ("function_call", "weather", "completed")
        check_call(call.name, call.arguments)
    kinds, arguments = [], ""
    for event in tool_sdk.responses.create(
        model="demo", input="Hi", tools=tools, tool_choice="required", parallel_tool_calls=False, stream=True
    ):
        kinds.append(event.type)
        if event.type == "response.function_call_arguments.delta":
            arguments += event.delta
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    check_call("weather", arguments)


class weather(pydantic.BaseModel):  # noqa: N801 - the class's name is the function's
    model_config = pydantic.ConfigDict(extra="forbid")
    days: int = pydantic.Field(ge=1, le=9)


def test_the_sdk_parses_arguments_into_a_model(tool_sdk):
    answer = tool_sdk.chat.completions.parse(
        model="demo",
        messages=HI,
        tools=[openai.pydantic_function_tool(weather)],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=200,
    )
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, weather)


def test_a_conversation_goes_on_after_a_call(tool_sdk):
    first = tool_sdk.chat.completions.create(
        model="demo",
        messages=HI,
        tools=TOOLS,
        tool_choice=NAMED,
        max_tokens=200,
    )
    message = first.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "rain"}
    answer = tool_sdk.chat.completions.create(
        model="demo", messages=[*HI, message, result], tools=TOOLS, max_tokens=10
    )
    assert answer.choices[0].message.role == "assistant"


def test_auto_may_call_or_answer_in_the_form_asked_for(tool_http):
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    schema["additionalProperties"] = False
    body = {
        "messages": HI,
        "tools": TOOLS,
        "temperature": 2.0,
        "seed": 1,
        "n": 12,
        "max_tokens": 200,
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
    }
    choices = tool_http.post("/v1/chat/completions", json=body).json()["choices"]
    reasons = {choice["finish_reason"] for choice in choices}
    for choice in choices:
        message = choice["message"]
        if choice["finish_reason"] == "stop":
            jsonschema.validate(json.loads(message["content"]), schema)
        elif choice["finish_reason"] == "tool_calls":
            (call,) = message["tool_calls"]
            check_call(**call["function"])
    assert reasons & {"stop", "tool_calls"}


def test_what_cannot_be_asked_of_tools(tool_http):
    for fields, param in (
        ({"guided_regex": "a"}, "tools"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
    ):
        answer = tool_http.post("/v1/chat/completions", json={"messages": HI, "tools": TOOLS, **fields})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param
    bad = [{"type": "function", "function": {"name": "f", "parameters": {"not": {}}}}]
    answer = tool_http.post(
        "/v1/chat/completions", json={"messages": HI, "tools": bad, "tool_choice": "required"}
    )
    assert answer.status_code == 400
    assert "Unimplemented keys" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_a_strict_function_is_called_as_it_is_declared_or_not_at_all(tool_server, tool_http, path):
    """A model that would write nothing but braces: where they begin a call, it is a valid one."""
    (brace,) = tool_server.tokenizer.encode("{")
    body = {"temperature": 1.0, "seed": 3, "logit_bias": {str(brace): 100}, "parallel_tool_calls": False}
    begins_a_call = tool_server.config.tool_format is ToolFormatName.llama3
    for strict in (False, True):
        function = {**TOOLS[0]["function"], "strict": strict}
        if "chat" in path:
            fields = {"messages": HI, "tools": [{"type": "function", "function": function}], "max_tokens": 90}
            (choice,) = tool_http.post(path, json={**body, **fields}).json()["choices"]
            calls = [call["function"] for call in choice["message"].get("tool_calls", [])]
        else:
            fields = {"input": "Hi", "tools": [{"type": "function", **function}], "max_output_tokens": 90}
            output = tool_http.post(path, json={**body, **fields}).json()["output"]
            calls = [item for item in output if item["type"] == "function_call"]
        assert len(calls) == (strict and begins_a_call)
        for call in calls:
            check_call(call["name"], call["arguments"])
