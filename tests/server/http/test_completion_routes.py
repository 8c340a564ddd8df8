"""/v1/completions: every form of prompt and parameter, against the engine asked directly."""

import pytest
from live_server import events
from offline import asked

PROMPT = "Once upon a time"
GREEDY = {"temperature": 0, "max_tokens": 12}


def complete(http, **fields) -> dict:
    answer = http.post("/v1/completions", json={"prompt": PROMPT} | GREEDY | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def stream(http, **fields) -> list:
    body = {"prompt": PROMPT, "stream": True} | GREEDY | fields
    with http.stream("POST", "/v1/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        return events(answer.iter_lines())


def test_text_reason_and_usage_are_the_engines(server, http):
    (sample,) = asked(server, PROMPT, temperature=0.0, max_tokens=12)
    answer = complete(http)
    assert answer["object"] == "text_completion"
    assert answer["model"] == "demo"
    assert answer["choices"] == [
        {"index": 0, "text": sample.text, "logprobs": None, "finish_reason": sample.finish_reason.value}
    ]
    usage = answer["usage"]
    prompt = len(server.tokenizer.encode(PROMPT))
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (prompt, len(sample.token_ids))
    assert usage["total_tokens"] == prompt + len(sample.token_ids)


def test_sixteen_tokens_unless_told(http):
    assert complete(http, max_tokens=None, ignore_eos=True)["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize("form", ["text", "texts", "ids", "lists of ids"])
def test_every_form_of_prompt(server, http, form):
    texts = ["The", PROMPT]
    ids = [server.tokenizer.encode(text) for text in texts]
    expected = [asked(server, text, temperature=0.0, max_tokens=12)[0].text for text in texts]
    prompt, which = {
        "text": (texts[0], [0]),
        "texts": (texts, [0, 1]),
        "ids": (ids[1], [1]),
        "lists of ids": (ids, [0, 1]),
    }[form]
    choices = complete(http, prompt=prompt)["choices"]
    assert [choice["text"] for choice in choices] == [expected[i] for i in which]
    assert [choice["index"] for choice in choices] == list(range(len(which)))


def test_sampling_parameters_reach_the_engine(server, http):
    fields = {"temperature": 0.9, "seed": 7, "max_tokens": 20, "n": 3}
    extras = {
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.01,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.3,
        "repetition_penalty": 1.1,
        "min_tokens": 20,
        "ignore_eos": True,
    }
    expected = asked(server, PROMPT, logit_bias={5: -100.0, 300: 2.0}, **fields, **extras)
    answer = complete(http, logit_bias={"5": -100, "300": 2}, **fields, **extras)
    assert [choice["text"] for choice in answer["choices"]] == [sample.text for sample in expected]
    assert len({choice["text"] for choice in answer["choices"]}) == 3
    assert answer["usage"]["completion_tokens"] == 60


def test_null_is_the_default_and_unknown_fields_are_accepted(http):
    nulls = dict.fromkeys(
        ["top_p", "top_k", "n", "best_of", "stop", "seed", "logprobs", "echo", "logit_bias", "user", "suffix",
         "stream", "stream_options", "presence_penalty", "response_format", "priority"]
    )  # fmt: skip
    assert complete(http, **nulls, invented={"by": "someone"}) | {"id": 0, "created": 0, "usage": 0} == (
        complete(http) | {"id": 0, "created": 0, "usage": 0}
    )


def test_stop_cuts_and_says_so(server, http):
    whole = complete(http, max_tokens=40)["choices"][0]["text"]
    stop = whole[10:14]
    for given in (stop, [stop, "never there"]):
        (choice,) = complete(http, max_tokens=40, stop=given)["choices"]
        assert choice["text"] == whole[: whole.index(stop)]
        assert choice["finish_reason"] == "stop"


def test_best_of_returns_those_of_the_highest_mean_logprob(server, http):
    fields = {"temperature": 1.0, "seed": 3, "max_tokens": 10}
    drawn = asked(server, PROMPT, **fields, n=5, logprobs=0)

    def mean(sample) -> float:
        return sum(each.logprob for each in sample.logprobs) / len(sample.logprobs)

    best = sorted(drawn, key=mean, reverse=True)
    answer = complete(http, **fields, n=2, best_of=5)
    assert [choice["text"] for choice in answer["choices"]] == [sample.text for sample in best[:2]]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert answer["choices"][0]["logprobs"] is None
    assert answer["usage"]["completion_tokens"] == sum(len(sample.token_ids) for sample in drawn)


def test_logprobs_are_the_engines(server, http):
    (sample,) = asked(server, PROMPT, temperature=0.0, max_tokens=12, logprobs=3)
    (choice,) = complete(http, logprobs=3)["choices"]
    lists = choice["logprobs"]
    assert "".join(lists["tokens"]) == choice["text"]
    assert lists["token_logprobs"] == [entry.logprob for entry in sample.logprobs]
    assert [choice["text"][offset:][: len(token)] for offset, token in zip(
        lists["text_offset"], lists["tokens"], strict=True
    )] == lists["tokens"]  # fmt: skip
    for top, entry in zip(lists["top_logprobs"], sample.logprobs, strict=True):
        assert list(top.values()) == sorted(top.values(), reverse=True)
        assert top == {server.tokenizer.decode([token]): logprob for token, logprob in entry.top}


def test_echo_as_lm_eval_asks_for_it(server, http):
    ids = server.tokenizer.encode("Tom and Mia went to the")
    (sample,) = asked(server, ids, temperature=0.0, max_tokens=1, logprobs=1, prompt_logprobs=1)
    (choice,) = complete(http, prompt=[ids], echo=True, max_tokens=1, logprobs=1, seed=1234)["choices"]
    lists = choice["logprobs"]
    assert choice["text"] == "Tom and Mia went to the" + sample.text
    assert len(lists["tokens"]) == len(ids) + 1
    assert lists["token_logprobs"] == [
        None, *(entry.logprob for entry in sample.prompt_logprobs), sample.logprobs[0].logprob
    ]  # fmt: skip
    assert lists["top_logprobs"][0] is None
    for top, entry in zip(lists["top_logprobs"][1:-1], sample.prompt_logprobs, strict=True):
        assert max(top.values()) == entry.top[0][1]
        assert top[server.tokenizer.decode([entry.token_id])] == entry.logprob
    for offset, token in zip(lists["text_offset"], lists["tokens"], strict=True):
        assert choice["text"][offset : offset + len(token)] == token


def test_echo_alone_generates_nothing(server, http):
    answer = complete(http, echo=True, max_tokens=0, logprobs=0)
    (choice,) = answer["choices"]
    assert choice["text"] == PROMPT
    assert choice["finish_reason"] == "length"
    assert len(choice["logprobs"]["tokens"]) == len(server.tokenizer.encode(PROMPT))
    assert answer["usage"]["completion_tokens"] == 0


def test_a_stream_is_the_whole_in_pieces(http):
    for fields in ({}, {"logprobs": 2}, {"echo": True, "logprobs": 1}, {"stop": ["she"], "max_tokens": 60}):
        (whole,) = complete(http, **fields)["choices"]
        *chunks, done = stream(http, **fields)
        assert done == "[DONE]"
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["text"]
        reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
        assert reasons == [None] * (len(chunks) - 1) + [whole["finish_reason"]]
        if whole["logprobs"] is not None:
            pieces = [chunk["choices"][0]["logprobs"] for chunk in chunks]
            for name, values in whole["logprobs"].items():
                assert [value for piece in pieces if piece for value in piece[name]] == values
        assert len({chunk["id"] for chunk in chunks}) == 1


def test_samples_and_prompts_of_a_stream_are_told_apart(http):
    fields = {"prompt": ["The", PROMPT, "Question"], "n": 2, "temperature": 1.0, "seed": 5}
    whole = complete(http, **fields)["choices"]
    texts = dict.fromkeys(range(6), "")
    for chunk in stream(http, **fields)[:-1]:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["text"]
    assert texts == {choice["index"]: choice["text"] for choice in whole}


def test_usage_in_a_stream(http):
    usage = complete(http)["usage"] | {"prompt_tokens_details": None}
    assert not any("usage" in chunk for chunk in stream(http)[:-1])
    *chunks, last, done = stream(http, stream_options={"include_usage": True})
    assert (last["choices"], last["usage"] | {"prompt_tokens_details": None}, done) == ([], usage, "[DONE]")
    assert [chunk["usage"] for chunk in chunks] == [None] * len(chunks)
    options = {"include_usage": True, "continuous_usage_stats": True}
    *chunks, last, _ = stream(http, stream_options=options)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[0] >= 1
    assert counts[-1] == last["usage"]["completion_tokens"]


def test_a_cached_prompt_is_reported(http):
    prompt = "The same long beginning of a story, told twice by the same old man in the same small town. " * 4
    assert complete(http, prompt=prompt)["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert complete(http, prompt=prompt)["usage"]["prompt_tokens_details"]["cached_tokens"] > 32


def test_more_prompts_than_run_at_once(http):
    prompts = [[300 + i, 301] for i in range(300)]
    choices = complete(http, prompt=prompts, max_tokens=1)["choices"]
    assert [choice["index"] for choice in choices] == list(range(300))
