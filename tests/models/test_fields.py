"""Reading config.json."""

from collections.abc import Callable
from typing import Any

import pytest

from quire.errors import UserError
from quire.models.fields import Fields


def test_values_and_defaults() -> None:
    fields = Fields({"a": 3, "b": None, "c": 0.5, "d": False, "e": [1, 2], "f": {"g": 1}})
    assert (fields.integer("a"), fields.integer("b", 7), fields.integer("absent", 8)) == (3, 7, 8)
    assert (fields.number("a"), fields.number("c"), fields.number("b", 1.5)) == (3.0, 0.5, 1.5)
    assert fields.flag("d", True) is False
    assert fields.integers("e") == (1, 2)
    assert fields.integers("absent") == ()
    assert fields.section("absent") is None
    section = fields.section("f")
    assert section is not None
    assert section.integer("g") == 1


def test_a_field_of_several_names() -> None:
    fields = Fields({"older": 3, "newer": None})
    assert fields.first_integer("newer", "older") == 3
    with pytest.raises(UserError, match=r"^config\.json: heads is missing$"):
        fields.first_integer("heads", "n_head")


def test_null_is_none_for_optional_readers_only() -> None:
    fields = Fields({"window": None})
    assert fields.optional_integer("window", 4096) is None
    assert fields.optional_integer("absent", 4096) == 4096
    assert fields.optional_number("window", 30.0) is None
    assert fields.optional_number("absent", 30.0) == 30.0
    assert fields.integer("window", 4096) == 4096


def test_choices_of_layers() -> None:
    kinds = {"full": None, "sliding": 16}
    assert Fields({"types": ["full", "sliding"]}).choices("types", kinds, length=2) == (None, 16)
    assert Fields({}).choices("types", kinds, length=2) is None


@pytest.mark.parametrize(
    ("values", "read", "message"),
    [
        ({}, lambda f: f.integer("n"), "config.json: n is missing"),
        ({"n": "3"}, lambda f: f.integer("n"), "config.json: n='3': must be an integer of at least 0"),
        ({"n": True}, lambda f: f.integer("n"), "config.json: n=True: must be an integer of at least 0"),
        ({"n": -1}, lambda f: f.integer("n"), "config.json: n=-1: must be an integer of at least 0"),
        ({"n": []}, lambda f: f.number("n"), "config.json: n=[]: must be a number"),
        ({"n": 1}, lambda f: f.flag("n", True), "config.json: n=1: must be true or false"),
        ({"n": "c"}, lambda f: f.choice("n", {"a": 1, "b": 2}), "config.json: n='c': must be a or b"),
        ({"n": 1}, lambda f: f.section("n"), "config.json: n=1: must be an object"),
        (
            {"n": {"m": 1.5}},
            lambda f: f.section("n").integer("m"),
            "config.json: n.m=1.5: must be an integer of",
        ),
        ({"n": [1, "2"]}, lambda f: f.integers("n"), "config.json: n=[1, '2']: must be a list of integers"),
        ({"n": ["c"]}, lambda f: f.choices("n", {"a": 1}, length=1), "n=['c']: must be a list of a"),
        ({"n": ["a"]}, lambda f: f.choices("n", {"a": 1}, length=2), "n has 1 entries: must have 2"),
        ({"n": {"bits": 4}}, lambda f: f.refuse("n", "not read"), "config.json: n is set: not read"),
    ],
)
def test_mistakes(values: dict[str, Any], read: Callable[[Fields], Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        read(Fields(values))
    assert message in str(error.value)
