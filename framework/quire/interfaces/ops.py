"""The operations of a model besides attention: what a device needs to have fast."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Activation(enum.Enum):
    """Gate functions of the feed-forward layers."""

    SILU = "silu"
    GELU_TANH = "gelu_tanh"


class Head(ABC):
    """The table [V, E] of a vocabulary: the output head, and the embedding of a model that ties them."""

    @abstractmethod
    def embed(self, ids_T: torch.Tensor) -> torch.Tensor:
        """Rows of the table: [T] -> [T, E]."""

    @abstractmethod
    def logits(self, hidden_RE: torch.Tensor) -> torch.Tensor:
        """Products with every row, float32: [R, E] -> [R, V]."""


class Ops(ABC):
    """Normalisation, rotary embedding, gating and matrix products, for tensors of one device and type.

    Shapes as in `quire_kernels`: T tokens, E model dimension, H and K heads, D head dimension, I hidden.
    Constructed with `config` and `device` ("cpu" or "cuda"); raises MissingCapability there if it cannot run.
    """

    Config: type[Any]

    devices: frozenset[str] = frozenset({"cpu", "cuda"})
    dtypes: frozenset[str] = frozenset({"float32", "float16", "bfloat16"})

    @abstractmethod
    def linear(
        self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """A function [T, I] -> [T, O]. It may pack the weight; the caller keeps no reference to it."""

    def head(self, weight_VE: torch.Tensor) -> Head:
        """The table of a vocabulary, packed or not, in one copy; the caller keeps no reference to it."""
        return _PlainHead(weight_VE)

    def grouped_linear(
        self, weights: Iterable[torch.Tensor]
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """A function (x [T, I], ends [G]) -> [T, O]: rows ends[g - 1]:ends[g] of x, the g-th weight [O, I].

        `ends` is int32, on the device; T is at least 1. Weights are taken one by one. This default asks the
        device for the ends, so a GPU waits at each call.
        """
        return by_group([self.linear(weight, None) for weight in weights])

    @abstractmethod
    def rms_norm(
        self,
        x_TE: torch.Tensor,
        weight_E: torch.Tensor,
        *,
        eps: float,
        residual_TE: torch.Tensor | None = None,
        unit_offset: bool = False,
    ) -> torch.Tensor:
        """Root mean square norm over the last dimension, in float32, rounded once (Zhang & Sennrich, 2019).

        With a residual it first does residual += x in place and norms the sum.
        """

    @abstractmethod
    def rotary(
        self,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        positions_T: torch.Tensor,
        cos_sin_PR: torch.Tensor,
        *,
        interleaved: bool = False,
    ) -> None:
        """Rotate q and k in place (Su et al., RoFormer, 2021). Row p of `cos_sin_PR` (float32): cosines,
        then sines. Only the first R dimensions of each head turn.
        """

    @abstractmethod
    def act_mul(self, gate_up_T2I: torch.Tensor, activation: Activation) -> torch.Tensor:
        """act(first half) * second half: [T, 2I] -> [T, I]."""


def by_group(
    products: Sequence[Callable[[torch.Tensor], torch.Tensor]],
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """What `Ops.grouped_linear` returns, made of one product for each group."""
    import torch

    def multiply(x_TI: torch.Tensor, ends_G: torch.Tensor) -> torch.Tensor:
        ends = ends_G.tolist()
        bounds = zip(products, [0, *ends], ends, strict=False)
        return torch.cat([product(x_TI[a:b]) for product, a, b in bounds if a < b])

    return multiply


class _PlainHead(Head):
    """Plain torch on the weight as it is."""

    def __init__(self, weight_VE: torch.Tensor) -> None:
        from torch.nn import functional

        self._weight_VE = weight_VE
        self._functional = functional

    def embed(self, ids_T: torch.Tensor) -> torch.Tensor:
        return self._functional.embedding(ids_T, self._weight_VE)

    def logits(self, hidden_RE: torch.Tensor) -> torch.Tensor:
        return self._functional.linear(hidden_RE, self._weight_VE).float()
