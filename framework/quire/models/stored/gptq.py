"""GPTQ (Frantar et al., 2022) as AutoGPTQ and GPTQModel store it.

qweight  int32 [I / per word, O], packed along I      scales  [G, O]
qzeros   int32 [G, O / per word], packed along O; one less than the zero, except in gptq_v2
g_idx    int32 [I], the group of each input
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces.quantization import IntegerMatrix
from quire.models.stored.bits import unpack
from quire.models.stored.format import StoredFormat

if TYPE_CHECKING:
    from quire.models.fields import Fields
    from quire.models.loader import TensorEntry, TensorFiles


class Gptq(StoredFormat):
    """4 or 8 bits, groups in the order of the inputs."""

    mark = "qweight"
    companions = frozenset({"qweight", "qzeros", "scales", "g_idx"})

    def __init__(self, fields: Fields) -> None:
        """Raises UserError for what is not read, naming the field."""
        self._bits = fields.choice_of("bits", (4, 8))
        self._group_size = fields.group_size("group_size")
        fields.choice_of("desc_act", (False,), default=False)
        self._zero_shift = fields.choice("checkpoint_format", {"gptq": 1, "gptq_v2": 0}, "gptq")
        fields.refuse("dynamic", "bits that differ from module to module are not read")

    def shape(self, module: str, entries: Mapping[str, TensorEntry]) -> tuple[int, int]:
        words, rows = entries[f"{module}.qweight"].shape
        return rows, words * (32 // self._bits)

    def read(self, module: str, shape: tuple[int, int], files: TensorFiles) -> IntegerMatrix:
        import torch

        rows, columns = shape
        group_size = self._group_size or columns
        if f"{module}.g_idx" in files.entries:
            groups_I = torch.arange(columns, dtype=torch.int32) // group_size
            if not torch.equal(files.read(f"{module}.g_idx"), groups_I):
                raise UserError(
                    f"weights: {module}.g_idx orders groups by activation: must keep the inputs' order, as "
                    "with desc_act=false"
                )
        zeros_GO = unpack(files.read(f"{module}.qzeros"), bits=self._bits, dim=1, size=rows)
        return IntegerMatrix(
            values_OI=unpack(files.read(f"{module}.qweight"), bits=self._bits, dim=0, size=columns)
            .t()
            .contiguous(),
            scales_OG=files.read(f"{module}.scales").float().t().contiguous(),
            # In its own bits: the zero of 0 is stored as the greatest value.
            zeros_OG=((zeros_GO + self._zero_shift) & ((1 << self._bits) - 1)).t().contiguous(),
            bits=self._bits,
            group_size=group_size,
        )
