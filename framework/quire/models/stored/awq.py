"""AWQ (Lin et al., 2023) as AutoAWQ stores it, in the version called gemm.

qweight  int32 [I, O / 8]     qzeros  int32 [G, O / 8]     scales  [G, O]

Both are packed along O, eight neighbours a word, in an order that suits its GPU kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from quire.interfaces.quantization import IntegerMatrix
from quire.models.stored.bits import unpack
from quire.models.stored.format import StoredFormat

if TYPE_CHECKING:
    from quire.models.fields import Fields
    from quire.models.loader import TensorEntry, TensorFiles

_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_BITS = 4


class Awq(StoredFormat):
    """4 bits with zeros."""

    mark = "qweight"
    companions = frozenset({"qweight", "qzeros", "scales"})

    def __init__(self, fields: Fields) -> None:
        """Raises UserError for what is not read, naming the field."""
        fields.choice_of("bits", (_BITS,))
        self._group_size = fields.group_size("group_size")
        fields.choice_of("zero_point", (True,), default=True)
        fields.choice_of("version", ("gemm", "GEMM"), default="gemm")

    def shape(self, module: str, entries: Mapping[str, TensorEntry]) -> tuple[int, int]:
        columns, words = entries[f"{module}.qweight"].shape
        return words * (32 // _BITS), columns

    def read(self, module: str, shape: tuple[int, int], files: TensorFiles) -> IntegerMatrix:
        rows, columns = shape
        values_IO, zeros_GO = (
            unpack(files.read(f"{module}.{name}"), bits=_BITS, dim=1, size=rows, order=_ORDER)
            for name in ("qweight", "qzeros")
        )
        return IntegerMatrix(
            values_OI=values_IO.t().contiguous(),
            scales_OG=files.read(f"{module}.scales").float().t().contiguous(),
            zeros_OG=zeros_GO.t().contiguous(),
            bits=_BITS,
            group_size=self._group_size or columns,
        )
