"""Reads the tokenizer files of a model's directory in the Hugging Face format.

tokenizer.json is read by the tokenizers library itself, in a fraction of the time that importing transformers
takes. What it says goes before anything in tokenizer_config.json, from which come the names of the special
tokens, tokens that were added later, and the chat templates.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.errors import MissingCapability, UserError

if TYPE_CHECKING:
    import tokenizers

_TOKENIZER = "tokenizer.json"
_OTHERS = (
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tiktoken.model",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
)
"""Files of which transformers can make a tokenizer."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerFiles:
    """What a directory says about its tokenizer."""

    directory: Path
    backend: tokenizers.Tokenizer
    special_tokens: Mapping[str, str]
    """By name: bos_token, eos_token, and so on."""
    chat_templates: Mapping[str, str]
    """By name; "default" is the usual one."""


def read_tokenizer(directory: Path) -> TokenizerFiles:
    """Read the files. UserError if there are none, or one of them cannot be read."""
    if not (directory / _TOKENIZER).is_file():
        if any((directory / name).is_file() for name in _OTHERS):
            return _through_transformers(directory)
        raise UserError(
            f"{directory}: no tokenizer here; looked for {_TOKENIZER}, which is preferred, "
            f"and for {', '.join(_OTHERS)}"
        )
    config = _read_json(directory / "tokenizer_config.json")
    if "added_tokens_decoder" not in config:
        config |= _read_json(directory / "special_tokens_map.json")
    backend = _read_backend(directory / _TOKENIZER)
    special_tokens = _special_tokens(config)
    try:
        _add_tokens(backend, config, special_tokens)
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"{directory}: the added tokens in tokenizer_config.json are no tokens: {error}"
        ) from error
    return TokenizerFiles(
        directory=directory,
        backend=backend,
        special_tokens=special_tokens,
        chat_templates=_chat_templates(directory, config),
    )


def _read_backend(path: Path) -> tokenizers.Tokenizer:
    import tokenizers

    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more particular
        raise UserError(f"{path}: cannot be read as a tokenizer: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """The special tokens that have names. Newer files hold names of a model's own in an object."""
    named = {name: value for name, value in config.items() if name.endswith("_token")}
    extras = config.get("extra_special_tokens")
    if isinstance(extras, Mapping):
        named |= extras
    return {name: text for name, value in named.items() if (text := _text_of(value)) is not None}


def _add_tokens(
    backend: tokenizers.Tokenizer, config: Mapping[str, Any], special_tokens: Mapping[str, str]
) -> None:
    """Add what tokenizer_config.json knows beyond tokenizer.json; what is equal there stays as it is."""
    from tokenizers import AddedToken

    added: Mapping[str, Any] = config.get("added_tokens_decoder") or {}
    backend.add_tokens([AddedToken(**added[key]) for key in sorted(added, key=int)])
    known = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    extras = config.get("extra_special_tokens") or config.get("additional_special_tokens") or ()
    unnamed = () if isinstance(extras, Mapping) else map(_text_of, extras)
    names = [*special_tokens.values(), *(name for name in unnamed if name is not None)]
    backend.add_special_tokens([known.get(name) or AddedToken(name, normalized=False) for name in names])


def _text_of(token: Any) -> str | None:
    """A token's text: it is written as a string, or as an object with its content."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _chat_templates(directory: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Files of their own go before what tokenizer_config.json holds: one template, or several with names."""
    files = {path.stem: path for path in (directory / "additional_chat_templates").glob("*.jinja")}
    if (directory / "chat_template.jinja").is_file():
        files["default"] = directory / "chat_template.jinja"
    if files:
        return {name: path.read_text(encoding="utf-8") for name, path in sorted(files.items())}
    return _by_name(config.get("chat_template"))


def _by_name(template: Any) -> dict[str, str]:
    if template is None:
        return {}
    if isinstance(template, str):
        return {"default": template}
    if isinstance(template, Mapping):
        return dict(template)
    try:
        return {entry["name"]: entry["template"] for entry in template}
    except (KeyError, TypeError):
        raise UserError(
            "tokenizer_config.json: chat_template must be a string, or a list of objects of name and template"
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold a JSON object")
    return content


def _through_transformers(directory: Path) -> TokenizerFiles:
    """Let transformers convert an older format; takes seconds to import."""
    from transformers import AutoTokenizer

    _log.warning("%s: no %s; transformers converts what is there, which takes longer", directory, _TOKENIZER)
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # whatever its many converters raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{directory}: transformers cannot make a tokenizer of its files: {reason}"
        ) from error
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise MissingCapability(
            f"{directory}: {type(tokenizer).__name__} has no fast form; "
            f"save it as {_TOKENIZER} (transformers' save_pretrained of a fast tokenizer)"
        )
    return TokenizerFiles(
        directory=directory,
        backend=tokenizer.backend_tokenizer,
        special_tokens=tokenizer.special_tokens_map,
        chat_templates=_by_name(tokenizer.chat_template),
    )
