"""compressed-tensors, as llm-compressor writes it.

pack-quantized  weight_packed int32 [O, I / per word], packed along I
                weight_scale [O, G]; weight_zero_point int32 [O / per word, G], packed along O, if asymmetric
                weight_shape [2]
int-quantized   weight int8 [O, I]; weight_scale [O, G]

Packed values have 2 ** (bits - 1) added, so that they have no sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces.quantization import IntegerMatrix
from quire.models.stored.bits import unpack
from quire.models.stored.format import StoredFormat

if TYPE_CHECKING:
    import torch

    from quire.models.fields import Fields
    from quire.models.loader import TensorEntry, TensorFiles


class CompressedTensors(StoredFormat):
    """One scheme for the whole model: int4 or int8 weights, and float or dynamic int8 activations."""

    def __init__(self, fields: Fields) -> None:
        """Raises UserError for what is not read, naming the field."""
        self._packed = fields.choice("format", {"pack-quantized": True, "int-quantized": False})
        self.mark = "weight_packed" if self._packed else "weight"
        self.companions = frozenset({self.mark, "weight_scale", "weight_zero_point", "weight_shape"})
        fields.refuse("kv_cache_scheme", "quantised keys and values are not read")
        fields.refuse("sparsity_config", "sparse weights are not read")
        groups = fields.section("config_groups")
        names = [] if groups is None else list(groups.values)
        if groups is None or len(names) != 1:
            raise fields.wrong("config_groups", "an object of one group: schemes that differ are not read")
        scheme = groups.section(names[0])
        weights = None if scheme is None else scheme.section("weights")
        if scheme is None or weights is None:
            raise groups.wrong(names[0], "an object with weights")
        scheme.refuse("output_activations", "quantised outputs are not read")
        self._bits = weights.choice_of("num_bits", (4, 8) if self._packed else (8,))
        weights.choice("type", {"int": None})
        weights.choice_of("dynamic", (False,), default=False)
        weights.choice_of("actorder", ("weight", "static"), default="weight")
        strategy = weights.choice("strategy", {name: name for name in ("group", "channel", "tensor")})
        self._group_size = weights.group_size("group_size") if strategy == "group" else None
        self._symmetric = weights.flag("symmetric", True)
        self._int8_activations = _takes_int8(scheme.section("input_activations"))
        if self._int8_activations and (self._bits, self._symmetric, strategy == "group") != (8, True, False):
            raise weights.wrong("num_bits", "8, symmetric and by channel where activations are int8")

    def shape(self, module: str, entries: Mapping[str, TensorEntry]) -> tuple[int, int]:
        rows, columns = entries[f"{module}.{self.mark}"].shape
        return rows, columns * (32 // self._bits) if self._packed else columns

    def is_quantised(self, module: str, entries: Mapping[str, TensorEntry]) -> bool:
        return f"{module}.weight_scale" in entries

    def read(self, module: str, shape: tuple[int, int], files: TensorFiles) -> IntegerMatrix:
        rows, columns = shape
        scales_OG = files.read(f"{module}.weight_scale").float()
        if scales_OG.numel() == 1:
            scales_OG = scales_OG.reshape(1, 1).repeat(rows, 1)
        return IntegerMatrix(
            values_OI=self._values(module, shape, files),
            scales_OG=scales_OG,
            zeros_OG=None if self._symmetric else self._zeros(module, rows, files),
            bits=self._bits,
            group_size=self._group_size or columns,
            int8_activations=self._int8_activations,
        )

    def _values(self, module: str, shape: tuple[int, int], files: TensorFiles) -> torch.Tensor:
        stored = files.read(f"{module}.{self.mark}")
        if self._packed:
            return unpack(stored, bits=self._bits, dim=1, size=shape[1])
        return _unsigned(stored)

    def _zeros(self, module: str, rows: int, files: TensorFiles) -> torch.Tensor:
        name = f"{module}.weight_zero_point"
        if name not in files.entries:
            raise UserError(f"weights: {name} missing from the checkpoint, which is not symmetric")
        stored = files.read(name)
        if self._packed:
            zeros = unpack(stored, bits=self._bits, dim=0, size=rows)
        else:
            zeros = _unsigned(stored)
        return zeros if zeros.shape[0] == rows else zeros.reshape(1, 1).repeat(rows, 1)


def _unsigned(values: torch.Tensor) -> torch.Tensor:
    """int8 plus 128, as uint8."""
    import torch

    return (values.to(torch.int16) + 128).to(torch.uint8)


def _takes_int8(activations: Fields | None) -> bool:
    if activations is None:
        return False
    activations.choice_of("num_bits", (8,))
    activations.choice("type", {"int": None})
    activations.choice_of("dynamic", (True,))
    activations.choice_of("symmetric", (True,), default=True)
    activations.choice("strategy", {"token": None})
    return True
