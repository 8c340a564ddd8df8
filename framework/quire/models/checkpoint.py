"""From a model's name to its directory and what its JSON files say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quire.errors import UserError

DEMO = "demo"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WEIGHTS = "*.safetensors"
_HUB_FILES = ["*.json", "*.jinja", "tokenizer*", "*.model", "merges.txt", "vocab.txt"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A model in the Hugging Face format: a directory with config.json, weights and, mostly, a tokenizer."""

    name: str
    """As the user named it."""
    path: Path
    config: Mapping[str, Any]
    """The content of config.json."""
    architecture: str
    """The class name that config.json gives."""
    eos_token_ids: tuple[int, ...]
    """Tokens that end a sequence; generation_config.json goes before config.json."""

    @property
    def makes_embeddings(self) -> bool:
        """Whether it makes embeddings or scores rather than text: encoders, classifiers, decoders without
        their head, and what sentence-transformers saved.
        """
        name = self.architecture
        headless = name.endswith("Model") and not name.endswith("LMHeadModel")
        return (
            headless
            or name.endswith(("ForMaskedLM", "ForSequenceClassification"))
            or (self.path / "modules.json").is_file()
        )


def open_checkpoint(model: str, *, with_weights: bool = True) -> Checkpoint:
    """Find `model`: "demo", a local directory, or a hub id `owner/name`; only the last may use the network
    (and then fetches weights only if they are wanted).

    Raises UserError if there is no such model, or no readable config.json in it.
    """
    path = _locate(model, with_weights=with_weights)
    config = _read_json(path / "config.json", model)
    if config is None:
        raise UserError(f"model={model}: no config.json in {path}")
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise UserError(f"model={model}: config.json: architectures is missing: must name the model's class")
    generation = _read_json(path / "generation_config.json", model) or {}
    return Checkpoint(
        name=model,
        path=path,
        config=config,
        architecture=str(architectures[0]),
        eos_token_ids=_token_ids(generation.get("eos_token_id", config.get("eos_token_id")), model),
    )


def _locate(model: str, *, with_weights: bool) -> Path:
    if model == DEMO:
        path = Path(__file__).parents[1] / "demo_model"
        if not (path / "config.json").is_file():
            raise UserError("model=demo: the bundled demo model is missing from this installation")
        return path
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    # An existing first folder, as in models/missing, says that a path was meant: no need to ask the hub.
    if path.exists() or not _HUB_ID.fullmatch(model) or Path(model).parent.is_dir():
        raise UserError(
            f"model={model}: no such directory; must be demo, a directory or a hub id (owner/name)"
        )
    return _download(model, with_weights=with_weights)


def _download(model: str, *, with_weights: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        files = [*_HUB_FILES, _WEIGHTS] if with_weights else _HUB_FILES
        return Path(snapshot_download(model, allow_patterns=files))
    except GatedRepoError:
        raise UserError(f"model={model}: the hub grants access to it on request only; log in there") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise UserError(f"model={model}: no such directory, and no such model on the hub") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise UserError(
            f"model={model}: no such directory, and the hub cannot be reached ({type(error).__name__})"
        ) from None


def _read_json(path: Path, model: str) -> dict[str, Any] | None:
    """The object in a JSON file; None if there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"model={model}: {path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"model={model}: {path} must hold a JSON object")
    return content


def _token_ids(value: Any, model: str) -> tuple[int, ...]:
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(token, int) and not isinstance(token, bool) for token in ids):
        raise UserError(f"model={model}: eos_token_id={value!r}: must be an integer or a list of integers")
    return tuple(ids)
