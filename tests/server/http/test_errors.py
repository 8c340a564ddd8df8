"""Whatever is wrong with a request, the answer is OpenAI's error object with the right status."""

import json

import openai
import pytest

from quire.server.http.errors import ApiError
from quire.server.http.grammar import sampling_extra

CHAT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
COMPLETION = {"prompt": "Hi", "max_tokens": 2}


def error_of(answer, status: int) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    (body,) = answer.json().items()
    assert body[0] == "error"
    assert set(body[1]) == {"message", "type", "param", "code"}
    assert "Traceback" not in answer.text
    return body[1]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": {"text": "a"}}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [5000]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": "a\ud800"}, None),
        ({"prompt": ["a"] * 3000}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"n": 0}, "n"),
        ({"n": 65}, "n"),
        ({"best_of": 65}, "best_of"),
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"allowed_token_ids": [0], "min_tokens": 1}, "min_tokens"),
        ({"allowed_token_ids": [0, 5], "stop_token_ids": [5], "min_tokens": 1}, "min_tokens"),
        ({"stop_token_ids": list(range(2048)), "min_tokens": 1}, "min_tokens"),
        ({"logit_bias": {"5000": 1}}, "logit_bias"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"stop": ""}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"seed": 2**64}, "seed"),
        ({"min_tokens": 3}, "min_tokens"),
        ({"suffix": "end"}, "suffix"),
        ({"stream_options": "yes"}, "stream_options"),
        ({"response_format": {"type": "json_object"}, "allowed_token_ids": [5]}, None),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"guided_regex": "("}, None),
        ({"guided_regex": "a(?=b)"}, None),
        ({"guided_regex": "\ud800"}, None),
        ({"guided_grammar": "start: start"}, None),
        ({"guided_json": {"not": {}}}, None),
        ({"guided_json": 5}, "guided_json"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
        ({"response_format": {"type": "structural_tag", "structures": [], "triggers": []}}, None),
        ({"guided_json": "{", "stream": True}, "guided_json"),
        ({"guided_regex": "a+", "guided_choice": ["a"]}, "guided_regex"),
    ],
)
def test_a_completion_that_cannot_be(http, fields, param):
    body = json.dumps(COMPLETION | fields)
    answer = http.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    error = error_of(answer, 400)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"content": "Hi"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages"),
        ({"max_completion_tokens": 0}, "max_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"chat_template_kwargs": {"messages": 1}}, "chat_template_kwargs"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"not": 1}}}},
            None,
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_that_cannot_be(http, fields, param, stream):
    error = error_of(http.post("/v1/chat/completions", json=CHAT | fields | {"stream": stream}), 400)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"type": "reasoning"}]}, "input"),
        ({"input": [{"type": "message", "content": "Hi"}]}, "input"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"tools": [{"type": "function", "name": "f", "parameters": {}}]}, "tools"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "response_format"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
    ],
)
def test_a_response_that_cannot_be(http, fields, param):
    error = error_of(http.post("/v1/responses", json={"input": "Hi"} | fields), 400)
    assert error["param"] == param


def test_the_message_names_the_processor_that_is_missing():
    with pytest.raises(ApiError, match=r"logits processor 'grammar'.*has logit_bias, penalties") as caught:
        sampling_extra({"json_object": True}, None, frozenset({"penalties", "logit_bias"}))
    assert caught.value.code == "unsupported"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["completions", "chat/completions", "responses"])
def test_too_long_has_openais_code(http, path, stream):
    def body(text: str) -> dict:
        return {
            "completions": {"prompt": text},
            "chat/completions": {"messages": [{"role": "user", "content": text}]},
            "responses": {"input": text},
        }[path] | {"stream": stream}

    error = error_of(http.post(f"/v1/{path}", json=body("word " * 2000)), 400)
    assert error["code"] == "context_length_exceeded"
    error = error_of(http.post(f"/v1/{path}", json=body("a") | {"max_tokens": 1024}), 400)
    assert error["code"] == "context_length_exceeded"
    assert "1024" in error["message"]


@pytest.mark.parametrize("body", [b"{", b"", b"[1]", b'"a"', b"\xff\xfe", b"[" * 100_000, b"null"])
def test_a_body_that_is_no_request(http, body):
    answer = http.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    error_of(answer, 400)


def test_a_body_that_does_not_say_it_is_json(http):
    error_of(http.post("/v1/completions", content=b'{"prompt": "a"}'), 400)


def test_an_unknown_model(http):
    for path, body in (("completions", COMPLETION), ("chat/completions", CHAT)):
        content = json.dumps(body | {"model": "gpt-9\ud800"})  # half of a surrogate pair
        headers = {"content-type": "application/json"}
        error = error_of(http.post(f"/v1/{path}", content=content, headers=headers), 404)
        assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert error_of(http.get("/v1/models/gpt-9"), 404)["code"] == "model_not_found"


def test_an_unknown_route_and_a_wrong_method(http):
    assert error_of(http.get("/v1/nothing"), 404)["code"] == "unknown_url"
    answer = http.get("/v1/completions")
    assert error_of(answer, 405)["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "POST"


def test_the_sdk_raises_its_own_errors(sdk):
    with pytest.raises(openai.BadRequestError) as raised:
        sdk.chat.completions.create(model="demo", **CHAT, temperature=-1)
    assert raised.value.param == "temperature"
    assert "temperature" in raised.value.message
    with pytest.raises(openai.NotFoundError):
        sdk.chat.completions.create(model="gpt-9", **CHAT)


def test_what_the_model_cannot_do_says_so(http):
    assert error_of(http.post("/v1/embeddings", json={"input": "a"}), 400)
    assert error_of(http.post("/rerank", json={"query": "a", "documents": ["b"]}), 400)
    assert error_of(http.post("/score", json={"text_1": "a", "text_2": ["b"]}), 400)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vllm_xargs": {"nowhere": 1}}, "vllm_xargs.nowhere: there is no logits processor of that name; "),
        (
            {"vllm_xargs": {"grammar": {"regex": "a"}}, "guided_regex": "b"},
            "vllm_xargs.grammar: is asked for ",
        ),
        ({"vllm_xargs": {"grammar": 3}}, "grammar=3: must be an object with one of json_object"),
        ({"vllm_xargs": [3]}, "vllm_xargs: Input should be a valid dictionary"),
    ],
)
def test_further_processors_are_named_as_they_are(http, fields, message):
    assert message in error_of(http.post("/v1/completions", json={"prompt": "Hi", **fields}), 400)["message"]


@pytest.mark.parametrize(
    ("content", "type", "message"),
    [
        (b'{"prompt": "Hi"}', "application/x-www-form-urlencoded", "content-type must be application/json"),
        (b'{"prompt": "Hi"}', None, "content-type must be application/json"),
        (b"[]", "application/json", "the body: must be a JSON object"),
        (b"null", "application/json", "the body: must be a JSON object"),
        (b"", "application/json", "the body: must be a JSON object"),
    ],
)
def test_a_body_that_is_no_object_is_told_what_it_should_be(http, content, type, message):
    headers = {} if type is None else {"content-type": type}
    error = error_of(http.post("/v1/completions", content=content, headers=headers), 400)
    assert message in error["message"]


def test_the_engines_own_name_of_a_request_is_not_told(http):
    error = error_of(http.post("/v1/completions", json=COMPLETION | {"logit_bias": {"5000": 1}}), 400)
    assert error["message"] == "logit_bias: token id 5000 is outside the vocabulary, must be in 0..2047"
