"""Sampling parameters from JSON: every one of them, its type checked."""

import dataclasses

import pytest

from quire.engine.request import SamplingParams
from quire.errors import UserError
from quire.jobs.sampling_fields import sampling_from_json

GIVEN = {
    "temperature": 1,
    "top_k": 5,
    "top_p": 0.5,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "presence_penalty": -1,
    "frequency_penalty": 0.25,
    "logit_bias": {"7": 1.5, "8": -100},
    "allowed_token_ids": [7, 8],
    "bad_token_ids": [9],
    "seed": 3,
    "n": 2,
    "max_tokens": 20,
    "min_tokens": 2,
    "stop": ["a", "b"],
    "stop_token_ids": [4],
    "ignore_eos": True,
    "logprobs": 0,
    "prompt_logprobs": 2,
    "extra": {"mine": {"strength": 2}},
}


def test_every_parameter_can_be_given():
    assert set(GIVEN) == {each.name for each in dataclasses.fields(SamplingParams)}
    tuples = {name: tuple(value) for name, value in GIVEN.items() if isinstance(value, list)}
    expected = SamplingParams(**(GIVEN | tuples | {"logit_bias": {7: 1.5, 8: -100.0}}))
    assert sampling_from_json(GIVEN, SamplingParams()) == expected


def test_what_is_not_given_stays_as_the_defaults_say():
    defaults = SamplingParams(temperature=0.5, max_tokens=7)
    assert sampling_from_json({"top_k": 3}, defaults) == SamplingParams(
        temperature=0.5, max_tokens=7, top_k=3
    )
    assert sampling_from_json({"max_tokens": None}, defaults).max_tokens is None


def test_one_stop_string_needs_no_list():
    assert sampling_from_json({"stop": "end"}, SamplingParams()).stop == ("end",)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": "hot"}, r"temperature='hot': must be a number"),
        ({"temperature": None}, r"temperature=None: must be a number"),
        ({"temperature": True}, r"temperature=True: must be a number"),
        ({"temperature": 10**400}, r"temperature=1000.*\.\.\.: must be a number that a float can hold"),
        ({"temperature": float("nan")}, r"temperature=nan: must be a finite number"),
        ({"top_k": 1.5}, r"top_k=1\.5: must be an integer"),
        ({"n": True}, r"n=True: must be an integer"),
        ({"ignore_eos": 1}, r"ignore_eos=1: must be true or false"),
        ({"stop": [1]}, r"stop=\[1\]: must be a string or a list of strings"),
        ({"stop": ""}, r"stop=.*: must be strings that are not empty"),
        ({"stop_token_ids": "7"}, r"stop_token_ids='7': must be a list of integers"),
        ({"logit_bias": {"x": 1}}, r"logit_bias=.*: must be an object of token ids and numbers"),
        ({"logit_bias": [1]}, r"logit_bias=\[1\]: must be an object"),
        ({"logit_bias": {"1": "x"}}, r"logit_bias=.*: must be an object of token ids and numbers"),
        ({"extra": []}, r"extra=\[\]: must be an object"),
        ({"max_token": 3}, r"max_token: there is no such sampling parameter \(did you mean 'max_tokens'\?\)"),
        ({"top_p": 0}, r"top_p=0\.0: must be in \(0, 1\]"),
        ({"min_tokens": 9, "max_tokens": 3}, r"min_tokens=9: must be at most max_tokens=3"),
    ],
)
def test_a_wrong_type_is_named(given, message):
    with pytest.raises(UserError, match=message):
        sampling_from_json(given, SamplingParams())
