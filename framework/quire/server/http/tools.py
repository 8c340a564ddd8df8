"""Tools in a request: which the model may call, and whether it must."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from quire.server.http.errors import ApiError
from quire.server.http.model import ApiModel
from quire.server.http.tool_format import ToolFormat


class FunctionTool(ApiModel):
    """A function: its name, what it is for, and the schema of its arguments."""

    name: str = Field(min_length=1)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def for_template(self) -> dict[str, Any]:
        """As chat templates read it."""
        function: dict[str, Any] = {"name": self.name}
        if self.description is not None:
            function["description"] = self.description
        function["parameters"] = self.parameters or {"type": "object", "properties": {}}
        return {"type": "function", "function": function}


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
    format: ToolFormat

    def for_template(self) -> list[dict[str, Any]]:
        return [function.for_template() for function in self.functions]


def tools_asked(
    functions: list[FunctionTool],
    choice: str | NamedTool | None,
    tool_format: ToolFormat | None,
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
            "tools: this server knows no way in which its model would write calls; tool_choice='none' "
            "answers without them",
            param="tools",
            code="unsupported",
        )
    return ToolsAsked(
        functions=tuple(functions),
        required=choice == "required" or isinstance(choice, NamedTool),
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
