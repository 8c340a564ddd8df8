"""Lazy reading of safetensors, sharded or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from quire.errors import UserError

if TYPE_CHECKING:
    import torch

    from quire.interfaces.quantization import IntegerMatrix
    from quire.models.shard import Cut

_INDEX = "model.safetensors.index.json"
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorEntry:
    """What a file's header says about one tensor."""

    file: Path
    shape: tuple[int, ...]
    is_float: bool


class TensorFiles:
    """The tensors of a model directory. Opening reads headers only.

    Files are memory-mapped while open; `close` unmaps them, and they open again by themselves. Closing after
    each layer keeps the pages of weights already copied from counting against the process.
    """

    def __init__(self, directory: Path) -> None:
        self._handles: dict[Path, Any] = {}
        self.entries: dict[str, TensorEntry] = {}
        for file, names in _shards(directory).items():
            self._read_header(file, names)
        self.close()

    def copy_into(self, name: str, destination: torch.Tensor, cut: Cut | None = None) -> None:
        """Copy a tensor, or the part that `cut` says, converting its type and moving it to the device of
        `destination` (same shape). Of the file no more is read than is copied.
        """
        whole = self.read(name)
        destination.copy_(whole if cut is None else cut.of(whole))

    def read(self, name: str) -> torch.Tensor:
        """A tensor as it is in its file, in memory that `close` takes back."""
        entry = self.entries[name]
        try:
            return self._open(entry.file).get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{entry.file}: tensor {name} cannot be read: {error}") from None

    def stored(self, name: str) -> IntegerMatrix | None:
        """The tensor as integers, where a quantised checkpoint holds it so."""
        del name
        return None

    def close(self) -> None:
        """Unmap the files."""
        self._handles.clear()

    def _open(self, file: Path) -> Any:
        handle = self._handles.get(file)
        if handle is None:
            handle = self._handles[file] = safe_open(file, framework="pt", device="cpu")
        return handle

    def _read_header(self, file: Path, wanted: frozenset[str] | None) -> None:
        try:
            handle = self._open(file)
            for name in handle.keys():  # noqa: SIM118 - not a mapping
                view = handle.get_slice(name)
                self.entries[name] = TensorEntry(
                    file=file, shape=tuple(view.get_shape()), is_float=view.get_dtype() in _FLOATS
                )
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file}: not a readable safetensors file: {error}") from None
        missing = sorted(name for name in wanted or () if name not in self.entries)
        if missing:
            raise UserError(f"{file}: {_INDEX} says it holds {missing[0]}, but it does not")


def _shards(directory: Path) -> Mapping[Path, frozenset[str] | None]:
    """The files to read, with the tensors that an index promises in each (None without an index)."""
    index = directory / _INDEX
    if index.is_file():
        return _indexed(index)
    whole = directory / "model.safetensors"
    if whole.is_file():
        return {whole: None}
    # "consolidated" files hold the same weights once more, under the names of the publisher's own code.
    files = sorted(f for f in directory.glob("*.safetensors") if not f.name.startswith("consolidated"))
    if not files:
        raise UserError(f"{directory}: no *.safetensors file; weights in other formats are not read")
    return dict.fromkeys(files)


def _indexed(index: Path) -> Mapping[Path, frozenset[str]]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards: dict[Path, set[str]] = {}
        for name, file in weight_map.items():
            shards.setdefault(index.parent / file, set()).add(name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{index}: not a readable index: must hold an object weight_map") from None
    for file in shards:
        if not file.is_file():
            raise UserError(f"{file}: missing, though {index.name} names it")
    return {file: frozenset(names) for file, names in shards.items()}
