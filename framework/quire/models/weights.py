"""A checkpoint's tensors under the decoder's names, checked first and then read one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

from quire.errors import UserError
from quire.interfaces.quantization import IntegerMatrix, stack_integers

if TYPE_CHECKING:
    from quire.models.loader import TensorFiles
    from quire.models.shard import Cut


class Weights:
    """Reads tensors in the model's type, straight to its device. Nothing is kept here."""

    def __init__(
        self,
        *,
        files: TensorFiles,
        rename: Callable[[str], str | None],
        expected: Mapping[str, tuple[int, ...]],
        device: str,
        dtype: torch.dtype,
        cuts: Mapping[str, Cut] | None = None,
    ) -> None:
        """`rename` gives the decoder's name of a checkpoint tensor, None for one to leave out. Of a tensor
        that `cuts` names only that part is read, and counts as the tensor.

        Raises UserError unless the checkpoint holds exactly the `expected` tensors in their shapes: a tensor
        too many would silently not take part in the model.
        """
        self._files = files
        self._expected = expected
        self._cuts = cuts or {}
        self.device = device
        self.dtype = dtype
        self._sources = {new: old for old in files.entries if (new := rename(old)) is not None}
        self._check()

    def tensor(self, name: str, *, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A fresh copy of one tensor, in the model's type where none is named."""
        return self._joined((name,), dtype or self.dtype)

    def stacked(self, *names: str) -> torch.Tensor:
        """Tensors joined along their first dimension, without an intermediate copy of any."""
        return self._joined(names, self.dtype)

    def _joined(self, names: tuple[str, ...], dtype: torch.dtype) -> torch.Tensor:
        shapes = [self._shape(name) for name in names]
        rows = [shape[0] for shape in shapes]
        joined = torch.empty((sum(rows), *shapes[0][1:]), dtype=dtype, device=self.device)
        for name, part in zip(names, joined.split(rows), strict=True):
            self._files.copy_into(self._sources[name], part, self._cuts.get(name))
        return joined

    def matrix(self, *names: str) -> torch.Tensor | IntegerMatrix:
        """As `stacked`, for a weight matrix: as the integers that a quantised checkpoint holds."""
        stored = [self._stored(name) for name in names]
        matrices = [each for each in stored if each is not None]
        if not matrices:
            return self.stacked(*names)
        if len(matrices) < len(names):
            raise UserError(f"weights: of {', '.join(names)} some are quantised and others are not")
        return stack_integers(matrices, device=self.device)

    def close(self) -> None:
        """Unmap the files read so far; reading on opens them again."""
        self._files.close()

    def _shape(self, name: str) -> tuple[int, ...]:
        cut = self._cuts.get(name)
        return self._expected[name] if cut is None else cut.shape(self._expected[name])

    def _stored(self, name: str) -> IntegerMatrix | None:
        matrix, cut = self._files.stored(self._sources[name]), self._cuts.get(name)
        return matrix if matrix is None or cut is None else cut.of_integers(matrix)

    def _check(self) -> None:
        missing = [name for name in self._expected if name not in self._sources]
        if missing:
            raise UserError(f"weights: {_first_of(missing)} missing from the checkpoint")
        unexpected = [old for new, old in self._sources.items() if new not in self._expected]
        if unexpected:
            raise UserError(
                f"weights: {_first_of(unexpected)} in the checkpoint not known to this architecture"
            )
        for name, shape in self._expected.items():
            entry = self._files.entries[self._sources[name]]
            if entry.shape != shape:
                raise UserError(
                    f"{entry.file}: tensor {self._sources[name]} has shape {list(entry.shape)}: "
                    f"config.json asks for {list(shape)}"
                )
            if not entry.is_float:
                raise UserError(
                    f"{entry.file}: tensor {self._sources[name]} is quantised: must be a 16 or 32 bit float"
                )


def _first_of(names: list[str]) -> str:
    return f"1 tensor ({names[0]})" if len(names) == 1 else f"{len(names)} tensors ({names[0]} first)"
