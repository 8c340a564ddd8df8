"""What a request says about the form of its output: a grammar, for the logits processor of that name.

`SamplingParams.extra["grammar"]` has one form and its value, plain JSON values:

    json_object     true                       any JSON object
    json_schema     the schema                 JSON that the schema allows
    regex           the expression
    choice          the texts, of which one
    lark, ebnf      the grammar, in Lark's notation, or with ::=
    structural_tag  the structures, and what they are triggered by
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from quire.server.http.errors import ApiError
from quire.server.http.model import ApiModel

PROCESSOR = "grammar"
"""The logits processor that keeps to it, and its key in `SamplingParams.extra`."""

_SchemaField = dict[str, Any] | bool | str | None


class JsonSchemaFormat(ApiModel):
    """The schema of `response_format`, with the name that OpenAI wants for it."""

    name: str | None = None
    json_schema: dict[str, Any] | bool | None = Field(default=None, alias="schema")
    strict: bool | None = None
    """Outputs keep to the schema in any case."""


class ResponseFormat(ApiModel):
    """text (any), json_object, json_schema, or vLLM's structural_tag."""

    type: str
    json_schema: JsonSchemaFormat | None = None
    structures: list[dict[str, Any]] | None = None
    triggers: list[str] | None = None


class StructuredOutputs(ApiModel):
    """vLLM's newer place for what the guided_ fields ask for; one at most."""

    json_schema: _SchemaField = Field(default=None, alias="json")
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = Field(default=None, min_length=1)
    grammar: str | None = None
    structural_tag: dict[str, Any] | str | None = None


class GuidedFields(ApiModel):
    """The fields, of OpenAI's API and of vLLM's, that ask for an output of a certain form; one at most."""

    response_format: ResponseFormat | None = None
    guided_json: _SchemaField = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = Field(default=None, min_length=1)
    guided_grammar: str | None = None
    structured_outputs: StructuredOutputs | None = None

    def grammar(self) -> dict[str, Any] | None:
        """The grammar asked for, if one is. Raises ApiError if it is none, or there is more than one."""
        given = {
            "response_format": None if self.response_format is None else _of_format(self.response_format),
            **_guided(
                "guided_", self.guided_json, self.guided_regex, self.guided_choice, self.guided_grammar
            ),
        }
        newer = self.structured_outputs
        if newer is not None:
            prefix = "structured_outputs."
            given |= _guided(prefix, newer.json_schema, newer.regex, newer.choice, newer.grammar)
            given[f"{prefix}json_object"] = {"json_object": True} if newer.json_object else None
            tag = newer.structural_tag
            if tag is not None:
                field = f"{prefix}structural_tag"
                given[field] = {"structural_tag": _json(tag, field) if isinstance(tag, str) else tag}
        asked = {field: grammar for field, grammar in given.items() if grammar is not None}
        if len(asked) > 1:
            raise ApiError(400, f"{' and '.join(asked)}: one of them at most", param=_top(next(iter(asked))))
        return next(iter(asked.values()), None)


def sampling_extra(
    grammar: Mapping[str, Any] | None, further: Mapping[str, Any] | None, processors: frozenset[str]
) -> dict[str, Any]:
    """`SamplingParams.extra`: the grammar, and parameters of `further` processors (`vllm_xargs`). Raises
    ApiError for a processor that this server has not.
    """
    extra = dict(further or {})
    for name in extra:
        if name not in processors:
            raise ApiError(
                400,
                f"vllm_xargs.{name}: there is no logits processor of that name; this server has "
                f"{', '.join(sorted(processors)) or 'none'}",
                param="vllm_xargs",
                code="unsupported",
            )
    if grammar is None:
        return extra
    if PROCESSOR in extra:
        raise ApiError(400, f"vllm_xargs.{PROCESSOR}: is asked for by another field, too", param="vllm_xargs")
    if PROCESSOR not in processors:
        raise ApiError(
            400,
            f"an output of a certain form ({next(iter(grammar))}) was asked for, which needs the logits "
            f"processor {PROCESSOR!r}; this server has {', '.join(sorted(processors)) or 'none'}",
            param="response_format",
            code="unsupported",
        )
    return {**extra, PROCESSOR: dict(grammar)}


def _guided(
    prefix: str, schema: _SchemaField, regex: str | None, choice: list[str] | None, grammar: str | None
) -> dict[str, dict[str, Any] | None]:
    return {
        f"{prefix}json": None if schema is None else _schema(schema, f"{prefix}json"),
        f"{prefix}regex": None if regex is None else {"regex": regex},
        f"{prefix}choice": None if choice is None else {"choice": choice},
        f"{prefix}grammar": None if grammar is None else _of_rules(grammar),
    }


def _of_rules(grammar: str) -> dict[str, Any]:
    """Rules are told with a colon in Lark's notation, with ::= in (E)BNF."""
    is_ebnf = re.search(r"^\s*[\w-]+\s*::=", grammar, re.MULTILINE) is not None
    return {"ebnf" if is_ebnf else "lark": grammar}


def _of_format(wanted: ResponseFormat) -> dict[str, Any] | None:
    match wanted.type:
        case "text":
            return None
        case "json_object":
            return {"json_object": True}
        case "json_schema":
            schema = wanted.json_schema
            if schema is None or schema.json_schema is None:
                raise ApiError(
                    400,
                    "response_format.json_schema.schema: is missing",
                    param="response_format",
                )
            return _schema(schema.json_schema, "response_format")
        case "structural_tag":
            return {"structural_tag": {"structures": wanted.structures, "triggers": wanted.triggers}}
        case other:
            raise ApiError(
                400,
                f"response_format.type={other!r}: must be text, json_object, json_schema or structural_tag",
                param="response_format",
            )


def _schema(schema: dict[str, Any] | bool | str, param: str) -> dict[str, Any]:
    if isinstance(schema, str):
        schema = _json(schema, param)
    if not isinstance(schema, dict | bool):
        raise ApiError(400, f"{param}: a schema is an object, or true or false", param=_top(param))
    return {"json_schema": schema}


def _json(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"{field}: is no JSON: {error}", param=_top(field)) from None


def _top(field: str) -> str:
    return field.partition(".")[0]
