"""Quantisation decides how a weight matrix is held and multiplied."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from quire.errors import UserError
from quire.interfaces.ops import ByGroup, Head

if TYPE_CHECKING:
    import torch

    from quire.interfaces.ops import GroupedProduct, Ops


class Product(Protocol):
    """x W^T + b: a function [T, I] -> [T, O] in the type of x."""

    def __call__(self, x_TI: torch.Tensor, /) -> torch.Tensor: ...


@runtime_checkable
class WideProduct(Product, Protocol):
    """One that can also keep the float32 in which it sums, which logits are worth."""

    def in_float32(self, x_TI: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class IntegerMatrix:
    """A weight [O, I] as a quantised checkpoint stores it: scale * (value - zero), by groups along I.

    G is the number of groups, the last of which may be shorter.
    """

    values_OI: torch.Tensor
    """uint8, each below 2 ** bits."""
    scales_OG: torch.Tensor
    """float32."""
    zeros_OG: torch.Tensor | None
    """uint8; None: the middle, 2 ** (bits - 1), everywhere."""
    bits: int
    group_size: int
    """Neighbours along I that share a scale; I if a whole row does."""
    int8_activations: bool = False
    """Whether the checkpoint was made for activations in int8, scaled token by token."""

    def to_float(self) -> torch.Tensor:
        """The weight in float32, [O, I]."""
        columns = self.values_OI.shape[1]

        def spread(values_OG: torch.Tensor) -> torch.Tensor:
            return values_OG.float().repeat_interleave(self.group_size, dim=1)[:, :columns]

        zeros = float(1 << (self.bits - 1)) if self.zeros_OG is None else spread(self.zeros_OG)
        return (self.values_OI.float() - zeros) * spread(self.scales_OG)

    def __str__(self) -> str:
        activations = "int8" if self.int8_activations else "16-bit"
        return f"{self.bits}-bit weights in groups of {self.group_size} with {activations} activations"


def stack_integers(matrices: Sequence[IntegerMatrix], *, device: str) -> IntegerMatrix:
    """Matrices one below the other, on a device. Raises UserError unless they are quantised alike."""
    import torch

    first = matrices[0]
    if any(
        (each.bits, each.group_size, each.int8_activations)
        != (first.bits, first.group_size, first.int8_activations)
        or (each.zeros_OG is None) != (first.zeros_OG is None)
        for each in matrices
    ):
        raise UserError(
            f"weights: matrices that make up one product are quantised differently: "
            f"{'; '.join(map(str, matrices))}"
        )
    zeros = [each.zeros_OG for each in matrices if each.zeros_OG is not None]
    return replace(
        first,
        values_OI=torch.cat([each.values_OI for each in matrices]).to(device),
        scales_OG=torch.cat([each.scales_OG for each in matrices]).to(device),
        zeros_OG=torch.cat(zeros).to(device) if zeros else None,
    )


class Quantization(ABC):
    """How a model's weight matrices are held and multiplied; norms, embeddings and routers stay as they are.

    Constructed with `config` and `device` ("cpu" or "cuda"); raises MissingCapability there if it cannot run.
    Shapes: T tokens, I inputs, O outputs, G groups of rows, V vocabulary, E model dimension.

    Products have names: `layers.3.attention.qkv` (q, k and v at once), `.attention.o`, `.mlp.gate_up`,
    `.mlp.down`, the same under `.mlp.experts`, and `head`.
    """

    Config: type[Any]

    devices: frozenset[str] = frozenset({"cpu", "cuda"})
    dtypes: frozenset[str] = frozenset({"float32", "float16", "bfloat16"})
    keeps_checkpoint: bool = False
    """Whether weights stay as the checkpoint has them."""
    skip: Sequence[str] = ()
    """Names of products to leave as `ops` makes them; `*` stands for anything."""

    @abstractmethod
    def linear(self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None, *, name: str, ops: Ops) -> Product:
        """The product with a weight, which the caller keeps no reference to. Called once for each that is not
        skipped, in the order of the layers.
        """

    def grouped_linear(self, weights: Iterable[torch.Tensor], *, name: str, ops: Ops) -> GroupedProduct:
        """As `Ops.grouped_linear`, for the experts of a layer. This default, too, makes a GPU wait."""
        return ByGroup([self.linear(weight, None, name=name, ops=ops) for weight in weights])

    def head(self, weight_VE: torch.Tensor, *, ops: Ops) -> Head:
        """The output head. This default multiplies by `linear`, and embeds with the table as it is."""
        return QuantizedHead(weight_VE, self.linear(weight_VE, None, name="head", ops=ops))

    def stored(self, matrix: IntegerMatrix, bias_O: torch.Tensor | None, *, name: str, ops: Ops) -> Product:
        """As `linear`, for a weight that the checkpoint holds as integers. This default refuses it."""
        del bias_O, ops
        raise UserError(
            f"quantization: {type(self).__name__} quantises 16 and 32 bit floats, but the checkpoint is "
            f"quantised already ({name} has {matrix}); quantization=none runs it as it is"
        )

    def stored_grouped(self, matrices: Iterable[IntegerMatrix], *, name: str, ops: Ops) -> GroupedProduct:
        """As `stored`, for the experts of a layer, taken one by one. This default, too, makes a GPU wait."""
        return ByGroup([self.stored(matrix, None, name=name, ops=ops) for matrix in matrices])


class QuantizedHead(Head):
    """A vocabulary's table, with products made otherwise than by multiplying with it."""

    def __init__(self, weight_VE: torch.Tensor, product: Product) -> None:
        self._weight_VE = weight_VE
        self._product = product.in_float32 if isinstance(product, WideProduct) else product

    def embed(self, ids_T: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        return functional.embedding(ids_T, self._weight_VE)

    def logits(self, hidden_RE: torch.Tensor) -> torch.Tensor:
        return self._product(hidden_RE).float()
