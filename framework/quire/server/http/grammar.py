"""What a request says about the form of its output: a grammar, for the logits processor of that name.

`SamplingParams.extra["grammar"]` is {"kind": K, "value": V}, plain JSON values:

    json_object     true                       any JSON object
    json_schema     the schema                 JSON that the schema allows
    regex           the expression
    choice          the texts, of which one
    lark            the grammar, in Lark's notation
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from quire.server.http.errors import ApiError
from quire.server.http.model import ApiModel

PROCESSOR = "grammar"
"""The logits processor that keeps to it, and its key in `SamplingParams.extra`."""


class JsonSchemaFormat(ApiModel):
    """The schema of `response_format`, with the name that OpenAI wants for it."""

    name: str | None = None
    json_schema: dict[str, Any] | bool | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(ApiModel):
    """text (any), json_object, or json_schema."""

    type: str
    json_schema: JsonSchemaFormat | None = None


class GuidedFields(ApiModel):
    """The fields, of OpenAI's API and of vLLM's, that ask for an output of a certain form; one at most."""

    response_format: ResponseFormat | None = None
    guided_json: dict[str, Any] | bool | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = Field(default=None, min_length=1)
    guided_grammar: str | None = None

    def grammar(self) -> dict[str, Any] | None:
        """The grammar asked for, if one is. Raises ApiError if it is none, or there is more than one."""
        given = {
            "response_format": None if self.response_format is None else _of_format(self.response_format),
            "guided_json": None if self.guided_json is None else _schema(self.guided_json, "guided_json"),
            "guided_regex": _value("regex", self.guided_regex),
            "guided_choice": _value("choice", self.guided_choice),
            "guided_grammar": _value("lark", self.guided_grammar),
        }
        asked = {field: grammar for field, grammar in given.items() if grammar is not None}
        if len(asked) > 1:
            raise ApiError(400, f"{' and '.join(asked)}: one of them at most", param=next(iter(asked)))
        return next(iter(asked.values()), None)


def sampling_extra(grammar: Mapping[str, Any] | None, processors: frozenset[str]) -> dict[str, Any]:
    """`SamplingParams.extra` with the grammar in it. Raises ApiError if no processor keeps to grammars."""
    if grammar is None:
        return {}
    if PROCESSOR not in processors:
        raise ApiError(
            400,
            f"an output of a certain form ({grammar['kind']}) was asked for, which needs the logits "
            f"processor {PROCESSOR!r}; this server has {', '.join(sorted(processors)) or 'none'}",
            param="response_format",
            code="unsupported",
        )
    return {PROCESSOR: dict(grammar)}


def _value(kind: str, value: Any) -> dict[str, Any] | None:
    return None if value is None else {"kind": kind, "value": value}


def _of_format(wanted: ResponseFormat) -> dict[str, Any] | None:
    match wanted.type:
        case "text":
            return None
        case "json_object":
            return {"kind": "json_object", "value": True}
        case "json_schema":
            schema = wanted.json_schema
            if schema is None or schema.json_schema is None:
                raise ApiError(
                    400,
                    "response_format.json_schema.schema: is missing",
                    param="response_format",
                )
            return _schema(schema.json_schema, "response_format")
        case other:
            raise ApiError(
                400,
                f"response_format.type={other!r}: must be text, json_object or json_schema",
                param="response_format",
            )


def _schema(schema: dict[str, Any] | bool | str, param: str) -> dict[str, Any]:
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise ApiError(400, f"{param}: is no JSON: {error}", param=param) from None
    if not isinstance(schema, dict | bool):
        raise ApiError(400, f"{param}: a schema is an object, or true or false", param=param)
    return {"kind": "json_schema", "value": schema}
