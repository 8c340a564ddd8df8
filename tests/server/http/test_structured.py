"""Outputs of a certain form, asked for in all the ways that clients have."""

import json
import re
from typing import Literal

import jsonschema
import pydantic
import pytest
from live_server import events

HI = [{"role": "user", "content": "Hi"}]
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["cat", "dog"]}, "legs": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["kind", "legs"],
    "additionalProperties": False,
}
LARK = 'start: "x" /[abc]{3}/'
EBNF = 'root ::= "x" [abc] [abc] [abc]'
TAG = {"structures": [{"begin": "<n>", "schema": {"type": "integer"}, "end": "</n>"}], "triggers": ["<n>"]}


def is_valid(text: str) -> bool:
    jsonschema.validate(json.loads(text), SCHEMA)
    return True


def is_object(text: str) -> bool:
    return isinstance(json.loads(text), dict)


def matches(pattern: str):
    return lambda text: re.fullmatch(pattern, text) is not None


WAYS = [
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}}, is_valid),
    ({"guided_json": SCHEMA}, is_valid),
    ({"guided_json": json.dumps(SCHEMA)}, is_valid),
    ({"structured_outputs": {"json": SCHEMA}}, is_valid),
    ({"structured_outputs": {"json": json.dumps(SCHEMA)}}, is_valid),
    ({"guided_regex": "[0-9]{3}-[a-z]{2}"}, matches("[0-9]{3}-[a-z]{2}")),
    ({"structured_outputs": {"regex": "(ab){2,4}"}}, matches("(ab){2,4}")),
    ({"guided_choice": ["red", "green"]}, matches("red|green")),
    ({"structured_outputs": {"choice": ["red", "green"]}}, matches("red|green")),
    ({"guided_grammar": LARK}, matches("x[abc]{3}")),
    ({"guided_grammar": EBNF}, matches("x[abc]{3}")),
    ({"structured_outputs": {"grammar": EBNF}}, matches("x[abc]{3}")),
    ({"vllm_xargs": {"grammar": {"regex": "[0-9]{3}"}}}, matches("[0-9]{3}")),
]
OBJECTS = [{"response_format": {"type": "json_object"}}, {"structured_outputs": {"json_object": True}}]
TAGS = [
    {"response_format": {"type": "structural_tag", **TAG}},
    {"structured_outputs": {"structural_tag": json.dumps(TAG)}},
]


@pytest.mark.parametrize(("asked", "holds"), WAYS)
def test_each_way_in_each_api(http, asked, holds):
    fields = {"temperature": 1.0, "seed": 5, "max_tokens": 200, "n": 2, **asked}
    chat = http.post("/v1/chat/completions", json={"messages": HI, **fields}).json()
    plain = http.post("/v1/completions", json={"prompt": ["Hi", "A cat"], **fields}).json()
    texts = [choice["message"]["content"] for choice in chat["choices"]]
    texts += [choice["text"] for choice in plain["choices"]]
    assert len(texts) == 6
    assert {choice["finish_reason"] for choice in chat["choices"] + plain["choices"]} == {"stop"}
    for text in texts:
        assert holds(text), text
    with http.stream(
        "POST", "/v1/chat/completions", json={"messages": HI, "stream": True, **fields, "n": 1}
    ) as answer:
        *chunks, _ = events(answer.iter_lines())
    assert holds("".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks))


@pytest.mark.parametrize("asked", OBJECTS)
def test_any_object_that_ended(http, asked):
    body = {"messages": HI, "temperature": 1.0, "seed": 1, "max_tokens": 150, "n": 8, **asked}
    choices = http.post("/v1/chat/completions", json=body).json()["choices"]
    ended = [each["message"]["content"] for each in choices if each["finish_reason"] == "stop"]
    assert ended
    assert all(map(is_object, ended))


@pytest.mark.parametrize("asked", TAGS)
def test_structures_where_text_triggers_them(server, http, asked):
    """The model is pushed towards the characters of the trigger."""
    bias = {str(token): 30 for token in server.tokenizer.encode("<n>", add_special_tokens=False)}
    body = {"prompt": "Hi", "logit_bias": bias, "max_tokens": 80, "seed": 1, "n": 16, **asked}
    choices = http.post("/v1/completions", json=body).json()["choices"]
    tagged = [text for each in choices for text in re.findall("<n>(.*?)</n>", each["text"], re.DOTALL)]
    assert tagged
    for text in tagged:
        assert isinstance(json.loads(text), int)


def test_a_response_with_a_schema(sdk):
    answer = sdk.responses.create(
        model="demo",
        input="Hi",
        max_output_tokens=200,
        text={"format": {"type": "json_schema", "name": "animal", "schema": SCHEMA, "strict": True}},
    )
    assert answer.status == "completed"
    assert is_valid(answer.output_text)


class Animal(pydantic.BaseModel):
    kind: Literal["cat", "dog"]
    legs: int = pydantic.Field(ge=0, le=9)
    sounds: list[Literal["meow", "bark"]] = pydantic.Field(max_length=3)
    friend: "Animal | None" = None


class Short(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    kind: Literal["cat", "dog"]
    sounds: list[Literal["meow", "bark"]] = pydantic.Field(max_length=2)


def test_the_sdk_parses_into_a_model(sdk):
    answer = sdk.chat.completions.parse(
        model="demo", messages=HI, response_format=Short, temperature=1.0, max_tokens=200, seed=3, n=3
    )
    for choice in answer.choices:
        assert isinstance(choice.message.parsed, Short)
    response = sdk.responses.parse(model="demo", input="Hi", text_format=Short, max_output_tokens=200)
    assert isinstance(response.output_parsed, Short)
    with sdk.chat.completions.stream(
        model="demo", messages=HI, response_format=Short, max_tokens=200, temperature=0.7, seed=3
    ) as stream:
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Short)


def test_a_model_that_holds_itself(http):
    schema = {"name": "a", "schema": Animal.model_json_schema()}
    body = {
        "messages": HI,
        "response_format": {"type": "json_schema", "json_schema": schema},
        "temperature": 1.0,
        "seed": 2,
        "n": 8,
        "max_tokens": 300,
    }
    choices = http.post("/v1/chat/completions", json=body).json()["choices"]
    ended = [each["message"]["content"] for each in choices if each["finish_reason"] == "stop"]
    assert ended
    for text in ended:
        Animal.model_validate_json(text)


def test_a_schema_that_cannot_be_kept_to_is_refused_by_name(http):
    asked = {"guided_json": {"type": "array", "uniqueItems": True}}
    for stream in (False, True):
        answer = http.post("/v1/completions", json={"prompt": "Hi", "stream": stream, **asked})
        assert answer.status_code == 400
        assert 'Unimplemented keys: ["uniqueItems"]' in answer.json()["error"]["message"]
