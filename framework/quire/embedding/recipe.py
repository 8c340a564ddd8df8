"""What a checkpoint says of its embeddings, in the files that sentence-transformers saves beside it.

modules.json                        the chain: Transformer, Pooling, perhaps Normalize
1_Pooling/config.json               which hidden states count
sentence_bert_config.json           the longest text, lower case
config_sentence_transformers.json   prompts by name
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quire.errors import MissingCapability, UserError
from quire.models.encoder_spec import Pooling

_POOLING_MODES = {
    "cls_token": Pooling.cls,
    "mean_tokens": Pooling.mean,
    "lasttoken": Pooling.last,
}
"""Ends of the flags pooling_mode_... in a pooling module's file."""
_POOLING_NAMES = {"cls": Pooling.cls, "mean": Pooling.mean, "lasttoken": Pooling.last}
"""The newer form: one field pooling_mode."""
_QUERY_PROMPTS = ("query",)
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How the checkpoint's makers turn a text into a vector. None: the files do not say."""

    pooling: Pooling | None = None
    normalize: bool | None = None
    max_tokens: int | None = None
    lowercase: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Put before a text, by name: a retriever mostly has one for queries."""
    default_prompt: str | None = None
    """The name of the one for texts of which nothing else is said."""

    def prompt(self, name: str | None) -> str:
        """The prompt of that name; of none, the default. "query" and "document" are always known.

        Raises UserError, with the names there are.
        """
        if name is None:
            return self.prompts[self.default_prompt] if self.default_prompt is not None else ""
        if name in self.prompts:
            return self.prompts[name]
        for names in (_QUERY_PROMPTS, _DOCUMENT_PROMPTS):
            if name == names[0]:
                return next((self.prompts[each] for each in names if each in self.prompts), "")
        known = ", ".join(sorted({*self.prompts, "query", "document"}))
        raise UserError(f"prompt name {name!r}: the model has none of that name; it has {known}")


def read_recipe(directory: Path) -> Recipe:
    """Read the files; an empty recipe where there are none. Raises UserError for one that cannot be read,
    MissingCapability for a chain with other modules.
    """
    modules = _read(directory / "modules.json")
    if modules is None:
        return Recipe()
    if not isinstance(modules, list) or not all(isinstance(each, dict) for each in modules):
        raise UserError(f"{directory / 'modules.json'}: must hold a list of objects")
    folders = {_kind(module): directory / str(module.get("path") or "") for module in modules}
    unknown = [kind for kind in folders if kind not in ("Transformer", "Pooling", "Normalize")]
    if unknown:
        raise MissingCapability(
            f"{directory / 'modules.json'}: module {unknown[0]} is not offered: must be Transformer, Pooling "
            "or Normalize"
        )
    limits = _read_object(folders.get("Transformer", directory) / "sentence_bert_config.json")
    texts = _read_object(directory / "config_sentence_transformers.json")
    prompts: dict[str, str] = texts.get("prompts") or {}
    default = texts.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise UserError(
            f"{directory / 'config_sentence_transformers.json'}: default_prompt_name={default!r}: "
            "must be one of the prompts"
        )
    return Recipe(
        pooling=_pooling(folders["Pooling"] / "config.json") if "Pooling" in folders else None,
        normalize="Normalize" in folders,
        max_tokens=limits.get("max_seq_length"),
        lowercase=bool(limits.get("do_lower_case", False)),
        prompts=prompts,
        default_prompt=default,
    )


def _kind(module: Mapping[str, Any]) -> str:
    """The last part of a module's class name: the packages before it changed from version to version."""
    return str(module.get("type", "")).rpartition(".")[2]


def _pooling(path: Path) -> Pooling:
    fields = _read_object(path)
    if fields.get("include_prompt") is False:
        raise MissingCapability(f"{path}: include_prompt=false: prompts always take part in pooling here")
    mode = fields.get("pooling_mode")
    if mode is not None:
        chosen, known = [mode], _POOLING_NAMES
    else:
        prefix = "pooling_mode_"
        chosen = [name.removeprefix(prefix) for name in fields if name.startswith(prefix) and fields[name]]
        known = _POOLING_MODES
    if len(chosen) != 1 or chosen[0] not in known:
        raise MissingCapability(
            f"{path}: pooling by {' and '.join(map(str, chosen)) or 'nothing'} is not offered: must be one "
            f"of {', '.join(known)}"
        )
    return known[chosen[0]]


def _read_object(path: Path) -> dict[str, Any]:
    content = _read(path)
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{path}: must hold a JSON object")
    return content or {}


def _read(path: Path) -> Any:
    """The content of a JSON file; None if there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
