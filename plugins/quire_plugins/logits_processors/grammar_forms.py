"""The forms in which a request names a grammar, each made into the one that llguidance reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from quire.errors import UserError

_WHITESPACE = r"( |\n {0,20})"
"""Between tokens of JSON, where any is allowed: enough for the usual ways to print it. Without a limit a
model that likes spaces could go on with them for ever."""


def llguidance_text(given: Any) -> str:
    """The grammar that `SamplingParams.extra["grammar"]` names, as llguidance reads it.

    Raises UserError unless it is an object of one form and its value:

        json_object       true: any JSON object
        json_schema       the schema: a JSON value that it allows
        regex             a regular expression in Rust's notation, for the whole text
        choice            a list of texts, of which one
        lark              a grammar in llguidance's dialect of Lark, from the rule `start`
        ebnf              a grammar in llama.cpp's notation (GBNF), from the rule `root`
        structural_tag    {"structures": [{"begin", "schema", "end"}], "triggers": [...]}: free text, in which
                          whatever begins with a trigger is one of the structures
    """
    if not isinstance(given, Mapping) or len(given) != 1 or not set(given) <= set(_FORMS):
        raise UserError(f"grammar={_shown(given)}: must be an object with one of {', '.join(_FORMS)}")
    ((form, value),) = given.items()
    try:
        return _FORMS[form](f"grammar.{form}", value)
    except RecursionError:
        raise UserError(f"grammar.{form}: is nested too deeply") from None
    except UnicodeEncodeError:
        raise UserError(f"grammar.{form}: has half of a surrogate pair, which is no text") from None


def _json_object(field: str, value: Any) -> str:
    if value is not True:
        raise _wrong(field, value, "true")
    return _json_schema(field, {"type": "object"})


def _json_schema(field: str, value: Any) -> str:
    from llguidance import LLMatcher

    if value is True:  # the schema of anything
        value = {}
    if not isinstance(value, Mapping):
        raise _wrong(field, value, "a JSON schema: an object, or true")
    try:
        return LLMatcher.grammar_from_json_schema(
            dict(value), overrides={"whitespace_pattern": _WHITESPACE, "lenient": False}
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"{field}: {error}") from None


def _regex(field: str, value: Any) -> str:
    from llguidance import LLMatcher

    return LLMatcher.grammar_from_regex(_text(field, value))


def _choice(field: str, value: Any) -> str:
    if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
        raise _wrong(field, value, "a list of at least one text")
    return _lark(field, "start: " + " | ".join(map(json.dumps, value)))


def _lark(field: str, value: Any) -> str:
    from llguidance import LLMatcher

    return LLMatcher.grammar_from_lark(_text(field, value))


def _ebnf(field: str, value: Any) -> str:
    from llguidance.gbnf_to_lark import gbnf_to_lark

    try:
        lark = gbnf_to_lark(_text(field, value))
    except RecursionError:
        raise
    except Exception as error:  # it raises nothing more particular
        raise UserError(f"{field}: {error}") from None
    return _lark(field, lark)


def _structural_tag(field: str, value: Any) -> str:
    from llguidance import StructTag

    well_formed = isinstance(value, Mapping) and all(
        isinstance(value.get(name), list) and value[name] for name in ("structures", "triggers")
    )
    if not well_formed:
        raise _wrong(field, value, "an object with lists of structures and triggers")
    tags: list[StructTag] = []
    for index, structure in enumerate(value["structures"]):
        where = f"{field}.structures[{index}]"
        if not isinstance(structure, Mapping):
            raise _wrong(where, structure, "an object with begin, schema and end")
        begin, end = (_text(f"{where}.{name}", structure.get(name)) for name in ("begin", "end"))
        schema = structure.get("schema", {})
        if not isinstance(schema, Mapping):
            raise _wrong(f"{where}.schema", schema, "a JSON schema")
        triggers = [_text(f"{field}.triggers", trigger) for trigger in value["triggers"]]
        trigger = next((each for each in triggers if each and begin.startswith(each)), None)
        if trigger is None:
            raise UserError(f"{where}.begin={begin!r}: must begin with one of triggers={triggers!r}")
        guided = {**schema, "x-guidance": {"whitespace_pattern": _WHITESPACE}}
        tags.append(StructTag(trigger=trigger, begin=begin, grammar=guided, end=end))
    return _lark(field, StructTag.to_grammar(tags, assume_special=False))


_FORMS: dict[str, Callable[[str, Any], str]] = {
    "json_object": _json_object,
    "json_schema": _json_schema,
    "regex": _regex,
    "choice": _choice,
    "lark": _lark,
    "ebnf": _ebnf,
    "structural_tag": _structural_tag,
}


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(field, value, "a text")
    value.encode()  # raises where it is none
    return value


def _wrong(field: str, value: Any, allowed: str) -> UserError:
    return UserError(f"{field}={_shown(value)}: must be {allowed}")


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
