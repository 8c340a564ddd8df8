"""Which format a model writes its calls in."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from quire.server.tools.hermes import OPEN, HermesFormat
from quire.server.tools.llama3 import TAG, Llama3Format
from quire.server.tools.tool_format import ToolFormat


class ToolFormatName(enum.Enum):
    """`auto` goes by the model's chat template; `none` refuses tools."""

    auto = "auto"
    none = "none"
    hermes = "hermes"
    llama3 = "llama3"


def tool_format(name: ToolFormatName, chat_templates: Mapping[str, str]) -> ToolFormat | None:
    """The format of that name; None for no tools, or where the templates show none that is known."""
    match name:
        case ToolFormatName.hermes:
            return HermesFormat()
        case ToolFormatName.llama3:
            return Llama3Format()
        case ToolFormatName.none:
            return None
        case ToolFormatName.auto:
            template = chat_templates.get("tool_use", chat_templates.get("default", ""))
            if OPEN in template:
                return HermesFormat()
            if "tools" in template and (TAG in template or '"parameters": dictionary' in template):
                return Llama3Format()
            return None
