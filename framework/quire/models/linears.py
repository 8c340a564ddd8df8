"""A model's matrix products: weights read by name, quantised as chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces.quantization import IntegerMatrix
from quire.models.shard import PARTIAL_SUMS
from quire.models.sharded_head import ShardedHead

if TYPE_CHECKING:
    import torch

    from quire.interfaces.ops import GroupedProduct, Head, Ops
    from quire.interfaces.quantization import Product, Quantization
    from quire.models.weights import Weights
    from quire.runtime.rank_group import RankGroup


class Linears:
    """Makes products by their names. `quantization=None` leaves all to `ops`. Where `weights` has a rank's
    part of each, `group` brings the results of all ranks together.
    """

    def __init__(
        self,
        *,
        weights: Weights,
        ops: Ops,
        quantization: Quantization | None,
        group: RankGroup | None = None,
    ) -> None:
        self._weights = weights
        self._group = group
        self._ops = ops
        self._quantization = quantization
        self._unmatched = set(() if quantization is None else quantization.skip)
        self._names: list[str] = []

    def linear(self, name: str, parts: Sequence[str], *, bias: bool) -> Product:
        """The product with the tensors `<part>.weight` one below the other, and their biases if there are."""
        weight = self._weights.matrix(*(f"{part}.weight" for part in parts))
        group = self._summing(name)
        if group is not None and group.share.rank:
            bias = False  # it counts once in the sum
        bias_O = self._weights.stacked(*(f"{part}.bias" for part in parts)) if bias else None
        product = self._product(name, weight, bias_O)
        return product if group is None else lambda x_TI: group.add(product(x_TI))

    def grouped(self, name: str, groups: Iterable[Sequence[str]]) -> GroupedProduct:
        """The products of several weights of one shape, each with its own rows."""
        product, group = self._grouped(name, groups), self._summing(name)
        return product if group is None else _SummedGroups(product, group)

    def _grouped(self, name: str, groups: Iterable[Sequence[str]]) -> GroupedProduct:
        matrices = (self._weights.matrix(*(f"{part}.weight" for part in parts)) for parts in groups)
        first = next(matrices)
        quantization = self._chosen(name)
        if isinstance(first, IntegerMatrix):
            stored = (_integers(each, name) for each in chain([first], matrices))
            if quantization is None:
                return self._ops.grouped_linear(each.to_float().to(self._weights.dtype) for each in stored)
            return quantization.stored_grouped(stored, name=name, ops=self._ops)
        weights = (_dense(each, name) for each in chain([first], matrices))
        if quantization is None:
            return self._ops.grouped_linear(weights)
        return quantization.grouped_linear(weights, name=name, ops=self._ops)

    def head(self, part: str, *, vocab_size: int) -> Head:
        """The table `<part>.weight` as output head, and as embedding if the model ties them."""
        head = self._head(part)
        return head if self._group is None else ShardedHead(head, group=self._group, vocab_size=vocab_size)

    def _head(self, part: str) -> Head:
        weight_VE = self._weights.tensor(f"{part}.weight")
        quantization = self._chosen("head")
        return (
            self._ops.head(weight_VE) if quantization is None else quantization.head(weight_VE, ops=self._ops)
        )

    def check_skip(self) -> None:
        """Once all products are made. Raises UserError for a name to skip that none of them has."""
        if self._unmatched:
            raise UserError(
                f"quantization.skip: {', '.join(sorted(self._unmatched))} names no product of this model; "
                f"there are {', '.join(self._names[:4])} and so on"
            )

    def _summing(self, name: str) -> RankGroup | None:
        """Who adds up the results of the product of that name; None if it is whole on each rank."""
        return self._group if name.rpartition(".")[2] in PARTIAL_SUMS else None

    def _product(
        self, name: str, weight: torch.Tensor | IntegerMatrix, bias_O: torch.Tensor | None
    ) -> Product:
        quantization = self._chosen(name)
        if isinstance(weight, IntegerMatrix):
            if quantization is None:
                return self._ops.linear(weight.to_float().to(self._weights.dtype), bias_O)
            return quantization.stored(weight, bias_O, name=name, ops=self._ops)
        if quantization is None:
            return self._ops.linear(weight, bias_O)
        return quantization.linear(weight, bias_O, name=name, ops=self._ops)

    def _chosen(self, name: str) -> Quantization | None:
        """What makes the product of that name; None: `ops`."""
        self._names.append(name)
        if self._quantization is None:
            return None
        matching = [pattern for pattern in self._quantization.skip if fnmatchcase(name, pattern)]
        self._unmatched.difference_update(matching)
        return None if matching else self._quantization


class _SummedGroups:
    """A grouped product of which each rank has a part of the sum."""

    capturable = False  # ranks wait for each other

    def __init__(self, product: GroupedProduct, group: RankGroup) -> None:
        self._product = product
        self._group = group

    def __call__(self, x_TI: torch.Tensor, ends_G: torch.Tensor) -> torch.Tensor:
        return self._group.add(self._product(x_TI, ends_G))


def _dense(weight: torch.Tensor | IntegerMatrix, name: str) -> torch.Tensor:
    if isinstance(weight, IntegerMatrix):
        raise _mixed(name)
    return weight


def _integers(weight: torch.Tensor | IntegerMatrix, name: str) -> IntegerMatrix:
    if not isinstance(weight, IntegerMatrix):
        raise _mixed(name)
    return weight


def _mixed(name: str) -> UserError:
    return UserError(f"weights: of the experts of {name} some are quantised and others are not")
