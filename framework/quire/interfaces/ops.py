"""The operations of a model besides attention: what a device needs to have fast."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

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


class GroupedProduct(Protocol):
    """Rows in groups, each group times a weight of its own: how a layer of experts multiplies."""

    capturable: bool
    """Whether calls launch the same whatever `ends` holds, and ask the device nothing: a CUDA graph may then
    repeat them."""

    def __call__(self, x_TI: torch.Tensor, ends_G: torch.Tensor, /) -> torch.Tensor:
        """[T, I] -> [T, O]: rows ends[g - 1]:ends[g] of x times the g-th weight [O, I].

        `ends` is int32, on the device, its last T, which is at least 1.
        """
        ...


class SortedPairs(NamedTuple):
    """The P = k T pairs of a token and one of its k experts, in the order of X experts."""

    tokens_P: torch.Tensor
    """Of each place its pair's token."""
    places_Tk: torch.Tensor
    """Of each pair its place; like the tokens an index, of int32 or int64."""
    ends_X: torch.Tensor
    """Of each expert the place after its last pair, int32."""


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

    def grouped_linear(self, weights: Iterable[torch.Tensor]) -> GroupedProduct:
        """The product of groups with these weights [O, I], which are taken one by one.

        This default asks the device for the ends of the groups, so a GPU waits at each call.
        """
        return ByGroup([self.linear(weight, None) for weight in weights])

    def sort_pairs(self, chosen_Tk: torch.Tensor, *, experts: int) -> SortedPairs:
        """Pairs in the order of the experts that `chosen` (int64) has for each token."""
        import torch

        sorted_P, order_P = chosen_Tk.flatten().sort()
        ids_X = torch.arange(experts, device=chosen_Tk.device)
        ids_P = torch.arange(len(order_P), device=chosen_Tk.device)
        return SortedPairs(
            tokens_P=order_P // chosen_Tk.shape[1],
            places_Tk=torch.empty_like(order_P).index_copy_(0, order_P, ids_P).view_as(chosen_Tk),
            ends_X=torch.searchsorted(sorted_P, ids_X, right=True, out_int32=True),
        )

    def sum_pairs(self, y_PE: torch.Tensor, places_Tk: torch.Tensor, shares_Tk: torch.Tensor) -> torch.Tensor:
        """Of each token the sum of what is at its places, times its shares (float32): [P, E] -> [T, E].

        The sum runs in the order of the k pairs: it depends on no other token.
        """
        return (y_PE[places_Tk] * shares_Tk[:, :, None].to(y_PE.dtype)).sum(dim=1)

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

    def layer_norm(
        self,
        x_TE: torch.Tensor,
        weight_E: torch.Tensor,
        bias_E: torch.Tensor | None,
        *,
        eps: float,
        residual_TE: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Layer norm over the last dimension, in float32, rounded once (Ba et al., 2016).

        A residual is treated as by `rms_norm`.
        """
        from torch.nn import functional

        if residual_TE is not None:
            x_TE = residual_TE.add_(x_TE)
        return functional.layer_norm(x_TE, weight_E.shape, weight_E, bias_E, eps)

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


class ByGroup:
    """A grouped product made of one product for each group. The host has to know the ends of the groups."""

    capturable = False

    def __init__(self, products: Sequence[Callable[[torch.Tensor], torch.Tensor]]) -> None:
        self._products = products

    def __call__(self, x_TI: torch.Tensor, ends_G: torch.Tensor) -> torch.Tensor:
        import torch

        ends = ends_G.tolist()
        bounds = zip(self._products, [0, *ends], ends, strict=False)
        return torch.cat([product(x_TI[a:b]) for product, a, b in bounds if a < b])


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
