"""Tools in a request: which the model may call, and whether it must."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from quire.server.http.errors import ApiError
from quire.server.http.model import ApiModel
from quire.server.tools.first_call import FirstCallParser
from quire.server.tools.tool_format import FunctionSchema, ToolFormat, ToolParser, json_rule


class FunctionTool(ApiModel):
    """A function: its name, what it is for, and the schema of its arguments."""

    name: str = Field(min_length=1)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    """Whether every call of it keeps to the schema, also where the model may choose not to call."""

    def for_template(self) -> dict[str, Any]:
        """As chat templates read it."""
        function: dict[str, Any] = {"name": self.name}
        if self.description is not None:
            function["description"] = self.description
        function["parameters"] = self.parameters or {"type": "object", "properties": {}}
        return {"type": "function", "function": function}

    def for_calls(self) -> FunctionSchema:
        """What calls of it must be like."""
        if not self.parameters:  # OpenAI's reading: it takes none
            return FunctionSchema(name=self.name)
        return FunctionSchema(name=self.name, parameters={"type": "object", **self.parameters})

    def for_any_call(self) -> FunctionSchema:
        """The same, with arguments of all kinds."""
        return FunctionSchema(name=self.name, parameters={"type": "object"})


class Tool(ApiModel):
    """A tool; functions are those that there are."""

    type: str
    function: FunctionTool | None = None


class NamedFunction(ApiModel):
    name: str


class NamedTool(ApiModel):
    """The one function that must be called."""

    type: str
    function: NamedFunction | None = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolsAsked:
    """The tools of a request that may call some."""

    functions: tuple[FunctionTool, ...]
    required: bool
    """Whether one must be called."""
    parallel: bool
    """Whether there may be more calls than one."""
    format: ToolFormat

    def for_template(self) -> list[dict[str, Any]]:
        return [function.for_template() for function in self.functions]

    def parser(self) -> ToolParser:
        """A parser for a new sample."""
        parser = self.format.parser(frozenset(function.name for function in self.functions))
        return parser if self.parallel else FirstCallParser(parser)

    def grammar(self, asked: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """What the output must be: calls that are valid, where there must be calls; otherwise what was
        `asked`, or calls. Where nothing was asked and nothing must be called, text in which calls of strict
        functions are valid, and those of others have an object of some kind for arguments; or, without any
        strict function, whatever the model says. Raises ApiError where both cannot be had.
        """
        if not self.required and asked is None:
            if not any(function.strict for function in self.functions):
                return None
            schemas = [f.for_calls() if f.strict else f.for_any_call() for f in self.functions]
            return {"lark": f"start: free\n{self.format.free_rule(schemas, parallel=self.parallel)}\n"}
        calls = self.format.calls_rule([f.for_calls() for f in self.functions], parallel=self.parallel)
        if self.required:  # whatever else was asked is about an answer in words, and there is none
            return {"lark": f"start: calls\n{calls}\n"}
        schema = {"type": "object"} if asked == {"json_object": True} else (asked or {}).get("json_schema")
        if not isinstance(schema, dict):
            raise ApiError(
                400,
                f"tools: with an output of a certain form ({', '.join(asked or {})}) a tool could not be "
                "called; a JSON schema can be combined with tools, and tool_choice='none' with anything",
                param="tools",
            )
        return {"lark": f"start: calls | answer\nanswer: {json_rule(schema)}\n{calls}\n"}


def tools_asked(
    functions: list[FunctionTool],
    choice: str | NamedTool | None,
    tool_format: ToolFormat | None,
    *,
    parallel: bool | None,
) -> ToolsAsked | None:
    """The tools that the model is told of; None if there are none, or none may be called. ApiError."""
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        raise _refusal(f"tool_choice={choice!r}: must be none, auto, required or a function")
    if isinstance(choice, NamedTool):
        name = choice.function.name if choice.function is not None else choice.name
        chosen = [function for function in functions if function.name == name]
        if not chosen:
            raise _refusal(f"tool_choice: there is no function {name!r} among the tools")
        functions = chosen
    if choice == "none" or (not functions and choice != "required"):
        return None
    if not functions:
        raise _refusal("tool_choice='required': there are no tools")
    if tool_format is None:
        raise ApiError(
            400,
            "tools: this server knows no way in which its model would write calls, as server.tool_format "
            "names one, or auto found none in the chat template; tool_choice='none' answers without them",
            param="tools",
            code="unsupported",
        )
    return ToolsAsked(
        functions=tuple(functions),
        required=choice == "required" or isinstance(choice, NamedTool),
        parallel=parallel is not False and not isinstance(choice, NamedTool),
        format=tool_format,
    )


def functions_of(tools: list[Tool]) -> list[FunctionTool]:
    """The functions among a chat's tools. Raises ApiError for a tool that is none."""
    functions: list[FunctionTool] = []
    for index, tool in enumerate(tools):
        if tool.type != "function" or tool.function is None:
            raise ApiError(
                400,
                f"tools[{index}]: must be a function, of type 'function', not {tool.type!r}",
                param="tools",
            )
        functions.append(tool.function)
    return functions


def _refusal(message: str) -> ApiError:
    return ApiError(400, message, param="tool_choice")
