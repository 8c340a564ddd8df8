"""The tensors of a quantised checkpoint, each quantised weight as one tensor of its own name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.models.fields import Fields
from quire.models.loader import TensorEntry, TensorFiles
from quire.models.stored.awq import Awq
from quire.models.stored.compressed import CompressedTensors
from quire.models.stored.gptq import Gptq

if TYPE_CHECKING:
    import torch

    from quire.interfaces.quantization import IntegerMatrix
    from quire.models.checkpoint import Checkpoint
    from quire.models.shard import Cut
    from quire.models.stored.format import StoredFormat

_CONFIG = "quantization_config"
_FORMATS: dict[str, type[Gptq] | type[Awq] | type[CompressedTensors]] = {
    "gptq": Gptq,
    "awq": Awq,
    "compressed-tensors": CompressedTensors,
}


def open_weights(checkpoint: Checkpoint) -> TensorFiles:
    """The checkpoint's tensors, quantised or not.

    Raises UserError for a `quantization_config` in config.json that asks for what is not read.
    """
    fields = Fields(checkpoint.config).section(_CONFIG)
    if fields is None:
        return TensorFiles(checkpoint.path)
    return StoredFiles(checkpoint.path, fields.choice("quant_method", _FORMATS)(fields))


class StoredFiles(TensorFiles):
    """Reads what `TensorFiles` reads, and quantised weights as integers or, where asked for, as floats."""

    def __init__(self, directory: Path, stored_format: StoredFormat) -> None:
        self._files = TensorFiles(directory)
        """The same tensors under the names that they have in the files."""
        super().__init__(directory)
        self._format = stored_format
        self._modules = self._find_modules()
        for module in self._modules:
            for companion in stored_format.companions:
                self.entries.pop(f"{module}.{companion}", None)
        for module, shape in self._modules.items():
            file = self._files.entries[f"{module}.{stored_format.mark}"].file
            self.entries[f"{module}.weight"] = TensorEntry(file=file, shape=shape, is_float=True)

    def stored(self, name: str) -> IntegerMatrix | None:
        module = name.removesuffix(".weight")
        if name == module or module not in self._modules:
            return None
        return self._format.read(module, self._modules[module], self._files)

    def copy_into(self, name: str, destination: torch.Tensor, cut: Cut | None = None) -> None:
        matrix = self.stored(name)
        if matrix is None:
            super().copy_into(name, destination, cut)
        else:
            whole = matrix.to_float()
            destination.copy_(whole if cut is None else cut.of(whole))

    def close(self) -> None:
        super().close()
        self._files.close()

    def _find_modules(self) -> dict[str, tuple[int, int]]:
        """Modules with a quantised weight, and the weight's shape."""
        suffix = f".{self._format.mark}"
        entries = self._files.entries
        modules = [name.removesuffix(suffix) for name in entries if name.endswith(suffix)]
        found = {
            module: self._format.shape(module, entries)
            for module in modules
            if self._format.is_quantised(module, entries)
        }
        if not found:
            raise UserError(f"config.json: {_CONFIG} is set: no tensor *{suffix} is in the checkpoint")
        return found
