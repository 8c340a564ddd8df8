"""ShareGPT's JSON and plain JSONL: text and token ids, fields read and checked."""

import json

import pytest

from quire.errors import UserError
from quire.interfaces.workload import WorkloadContext
from quire_plugins.workloads.jsonl import JsonlWorkload, JsonlWorkloadConfig
from quire_plugins.workloads.limits import TooLong
from quire_plugins.workloads.sharegpt import ShareGpt, ShareGptConfig


class Bytes:
    """A tokenizer whose tokens are the bytes of the text, after a special one."""

    def encode(self, text: str, *, add_special_tokens=True) -> list[int]:
        return [1] * add_special_tokens + list(text.encode())


CONVERSATIONS = [
    {"id": "a", "conversations": [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Yes"}]},
    {"id": "b", "conversations": [{"from": "gpt", "value": "I speak first"}]},
    {
        "id": "c",
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "Count to five"},
            {"from": "gpt", "value": "1 2 3 4 5"},
            {"from": "human", "value": "On"},
            {"from": "gpt", "value": "6"},
        ],
    },
]


def make(tmp_path, kind, text, *, longest=64, seed=0, **options):
    path = tmp_path / "file"
    path.write_text(text)
    workload = kind(config=kind.Config(path=str(path), **options))
    context = WorkloadContext(
        seed=seed,
        vocab_size=256,
        max_model_tokens=longest,
        tokenizer=Bytes() if workload.uses_text else None,
    )
    return workload, list(workload.requests(context))


def test_the_first_question_is_asked_and_its_answer_gives_the_length(tmp_path):
    workload, made = make(tmp_path, ShareGpt, json.dumps(CONVERSATIONS), shuffle=False)
    assert [(r.id, bytes(r.prompt_token_ids[1:]).decode(), r.forced_output_tokens) for r in made] == [
        ("sharegpt-0", "Hello?", 3),
        ("sharegpt-2", "Count to five", 9),
    ]
    assert workload.notes() == {"left_out_without_an_answer": 1}
    assert len(workload) == 2


def test_the_order_is_the_seeds_and_arrivals_are_drawn(tmp_path):
    many = json.dumps(CONVERSATIONS * 20)
    orders = [[r.id for r in make(tmp_path, ShareGpt, many, seed=seed)[1]] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    _, made = make(tmp_path, ShareGpt, many, rate=2.0, limit=10)
    assert len(made) == 10
    assert made[-1].arrival_time > made[0].arrival_time > 0


def test_long_conversations_are_left_out_or_shortened(tmp_path):
    text = json.dumps(CONVERSATIONS)
    workload, made = make(tmp_path, ShareGpt, text, longest=20, shuffle=False)
    assert [r.id for r in made] == ["sharegpt-0"]
    assert workload.notes()["left_out_as_too_long"] == 1
    _, made = make(tmp_path, ShareGpt, text, longest=20, shuffle=False, too_long=TooLong.clip)
    assert [(len(r.prompt_token_ids), r.forced_output_tokens) for r in made] == [(7, 3), (11, 9)]
    _, made = make(tmp_path, ShareGpt, text, longest=20, shuffle=False, output_cap=4)
    assert [r.forced_output_tokens for r in made] == [3, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(CONVERSATIONS)[:-9], r"line 1, column \d+: is not JSON"),
        ("{}", "must be a list of conversations"),
        ('[{"id": "a"}]', "conversation 0, column conversations: must be a list of messages"),
        ('[{"conversations": [{"from": "human"}]}]', "conversation 0, message 0: must have the strings"),
        ("[]", "has no conversation of a question and an answer"),
    ],
)
def test_what_is_wrong_with_conversations_is_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        make(tmp_path, ShareGpt, text)


LINES = """\
{"prompt": [5, 6, 7], "output_tokens": 4, "arrival": 0.5}

{"prompt_tokens": 10, "max_tokens": 3, "arrival": 1.5, "tenant": "x", "session": "s", "priority": -2, "deadline": 2}
"""  # noqa: E501 - one object a line


def test_lines_say_all_that_a_request_has(tmp_path):
    workload, (one, two) = make(tmp_path, JsonlWorkload, LINES)
    assert not workload.uses_text
    assert (one.id, one.prompt_token_ids, one.forced_output_tokens) == ("line-1", (5, 6, 7), 4)
    assert (one.arrival_time, one.sampling.max_tokens, one.tenant) == (0.5, 61, "default")
    assert (two.id, len(two.prompt_token_ids), two.forced_output_tokens) == ("line-3", 10, None)
    assert (two.tenant, two.session, two.priority, two.deadline) == ("x", "s", -2, 3.5)
    assert two.sampling.max_tokens == 3


def test_times_are_scaled_and_lines_limited(tmp_path):
    _, made = make(tmp_path, JsonlWorkload, LINES, time_scale=2.0)
    assert [r.arrival_time for r in made] == [1.0, 3.0]
    assert made[1].deadline == 5.0
    assert len(make(tmp_path, JsonlWorkload, LINES, limit=1)[1]) == 1


def test_text_is_encoded(tmp_path):
    workload, (request,) = make(tmp_path, JsonlWorkload, '{"prompt": "hi"}')
    assert workload.uses_text
    assert request.prompt_token_ids == (1, 104, 105)
    assert request.arrival_time == 0.0


def test_long_lines_are_left_out_or_refused(tmp_path):
    workload, made = make(tmp_path, JsonlWorkload, LINES, longest=12)
    assert [r.id for r in made] == ["line-1"]
    assert workload.notes() == {"left_out_as_too_long": 1}
    with pytest.raises(UserError, match=r"too_long=refuse: line 3 has 10 \+ 3 tokens, more than the 12"):
        make(tmp_path, JsonlWorkload, LINES, longest=12, too_long=TooLong.refuse)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "a", "promt_tokens": 3}', "line 1, column promt_tokens: is unknown; known are prompt"),
        ('{"output_tokens": 3}', "line 1, column prompt: give either prompt or prompt_tokens"),
        ('{"prompt": []}', "line 1, column prompt: is empty"),
        ('{"prompt": ["a"]}', "line 1, column prompt: must be a list of whole numbers"),
        ('{"prompt_tokens": 3, "tenant": 4}', "line 1, column tenant: 4: must be a string"),
        (
            '{"prompt_tokens": 3, "arrival": 2}\n{"prompt_tokens": 3, "arrival": 1}',
            "line 2, column arrival: is earlier",
        ),
        ('{"prompt_tokens": 3}\n{"prompt_tok', "line 2, column 2: is not JSON: .*ends within the line"),
        ("", "has no requests"),
    ],
)
def test_what_is_wrong_with_a_line_is_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        make(tmp_path, JsonlWorkload, text)


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (ShareGptConfig, {"rate": 0.0}, r"workload\.rate=0\.0"),
        (ShareGptConfig, {"limit": 0}, r"workload\.limit=0"),
        (JsonlWorkloadConfig, {"time_scale": 0.0}, r"workload\.time_scale=0\.0"),
        (JsonlWorkloadConfig, {"limit": 0}, r"workload\.limit=0"),
    ],
)
def test_impossible_options_are_named(config, options, message):
    with pytest.raises(UserError, match=message):
        config(**options)
