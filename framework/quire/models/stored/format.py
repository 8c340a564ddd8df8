"""What a format of quantised checkpoints says of its tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quire.interfaces.quantization import IntegerMatrix
    from quire.models.loader import TensorEntry, TensorFiles


class StoredFormat(ABC):
    """Finds the quantised weights of a checkpoint among its tensors, and reads them.

    A module `m` with tensors such as `m.qweight` and `m.scales` has one weight, `m.weight`.
    """

    mark: str
    """The suffix by which a quantised module is known, such as qweight."""
    companions: frozenset[str]
    """Suffixes of the tensors that make up a quantised weight."""

    @abstractmethod
    def shape(self, module: str, entries: Mapping[str, TensorEntry]) -> tuple[int, int]:
        """Rows and columns of the weight, from the shapes of its tensors."""

    @abstractmethod
    def read(self, module: str, shape: tuple[int, int], files: TensorFiles) -> IntegerMatrix:
        """The weight of a quantised module."""

    def is_quantised(self, module: str, entries: Mapping[str, TensorEntry]) -> bool:
        """Whether the tensor with the mark holds integers."""
        del module, entries
        return True
