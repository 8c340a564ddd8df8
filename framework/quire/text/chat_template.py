"""Chat templates: messages rendered to a prompt by the Jinja template that comes with a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from quire.errors import UserError


class ChatTemplate:
    """The templates of one checkpoint, by name; "default" is the usual one, "tool_use" the one for tools.

    `variables` are what templates may name besides the messages: the special tokens. Templates are programs
    from strangers: they run in Jinja's sandbox and see nothing but their arguments.
    """

    def __init__(
        self,
        *,
        templates: Mapping[str, str],
        variables: Mapping[str, str],
        source: str,
        now: Callable[[], datetime],
    ) -> None:
        self._variables = dict(variables)
        self._source = source
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json

        def strftime_now(pattern: str) -> str:
            return now().strftime(pattern)

        helpers = {"raise_exception": _raise_exception, "strftime_now": strftime_now}
        try:
            self._templates = {
                name: environment.from_string(text, globals=helpers) for name, text in templates.items()
            }
        except TemplateError as error:
            raise UserError(f"{source}: the chat template cannot be read: {error}") from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **variables: Any,
    ) -> str:
        """The prompt. What the template refuses (an order of roles, a missing field) is a UserError."""
        name = "tool_use" if tools is not None and "tool_use" in self._templates else "default"
        if name not in self._templates:
            raise UserError(
                f"{self._source}: has no default chat template, only {', '.join(sorted(self._templates))}"
                if self._templates
                else f"{self._source}: the model has no chat template; give it a prompt as text"
            )
        if not messages:
            raise UserError("messages=[]: must hold at least one message")
        # Clients write absent fields as null, which templates would print.
        present = [{key: value for key, value in m.items() if value is not None} for m in messages]
        try:
            return self._templates[name].render(
                {
                    **self._variables,
                    "documents": None,
                    **variables,
                    "messages": present,
                    "tools": tools,
                    "add_generation_prompt": add_generation_prompt,
                }
            )
        except (TemplateError, TypeError) as error:
            raise UserError(f"messages: the model's chat template refuses them: {error}") from error


class _Generation(Extension):
    """`{% generation %}` marks what an assistant says, for training; here it only renders its content."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is: Jinja's own filter escapes what HTML would read."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
