"""This project's own kernels: C++ and oneDNN on a CPU, Triton and cuBLAS on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from quire.errors import MissingCapability
from quire.interfaces.ops import Activation, GroupedProduct, Head, Ops, SortedPairs

if TYPE_CHECKING:
    import torch


@dataclass
class NativeOpsConfig:
    """Nothing to choose."""


class NativeOps(Ops):
    """Own kernels: C++ on a CPU, Triton on a GPU."""

    Config = NativeOpsConfig

    def __init__(self, *, config: NativeOpsConfig, device: str) -> None:
        """Builds the C++ kernels if this is their first use."""
        del config
        self._on_cpu = device == "cpu"
        if self._on_cpu:
            from quire_kernels import cpu as kernels

            try:
                kernels.load_kernels()
            except kernels.KernelBuildError as error:
                raise MissingCapability(f"ops=native: {error}") from None
            self.dtypes = frozenset({"float32", "bfloat16"})
        else:
            from quire_kernels import triton as kernels
        self._kernels = kernels

    def linear(
        self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        if self._on_cpu:
            from quire_kernels.cpu import pack_linear

            return pack_linear(weight_OI, bias_O)
        from torch.nn import functional

        return partial(functional.linear, weight=weight_OI, bias=bias_O)

    def head(self, weight_VE: torch.Tensor) -> Head:
        return _PackedHead(weight_VE) if self._on_cpu else super().head(weight_VE)

    def grouped_linear(self, weights: Iterable[torch.Tensor]) -> GroupedProduct:
        if self._on_cpu:
            return super().grouped_linear(weights)
        import torch

        return _Experts(torch.stack(list(weights)))

    def sort_pairs(self, chosen_Tk: torch.Tensor, *, experts: int) -> SortedPairs:
        """On a GPU one launch, unless pairs are so many that a sort has less to do."""
        if self._on_cpu:
            return super().sort_pairs(chosen_Tk, experts=experts)
        import torch

        from quire_kernels.triton.pairs import MOST_PAIRS

        if chosen_Tk.numel() > MOST_PAIRS:
            return super().sort_pairs(chosen_Tk, experts=experts)
        tokens_P, places_Tk, ends_X = (
            chosen_Tk.new_empty(shape, dtype=torch.int32)
            for shape in (chosen_Tk.numel(), chosen_Tk.shape, experts)
        )
        self._kernels.sort_pairs(chosen_Tk, tokens_P, places_Tk, ends_X)
        return SortedPairs(tokens_P=tokens_P, places_Tk=places_Tk, ends_X=ends_X)

    def sum_pairs(self, y_PE: torch.Tensor, places_Tk: torch.Tensor, shares_Tk: torch.Tensor) -> torch.Tensor:
        if self._on_cpu:
            return super().sum_pairs(y_PE, places_Tk, shares_Tk)
        out_TE = y_PE.new_empty((places_Tk.shape[0], y_PE.shape[1]))
        self._kernels.sum_pairs(y_PE, places_Tk, shares_Tk, out_TE)
        return out_TE

    def rms_norm(
        self,
        x_TE: torch.Tensor,
        weight_E: torch.Tensor,
        *,
        eps: float,
        residual_TE: torch.Tensor | None = None,
        unit_offset: bool = False,
    ) -> torch.Tensor:
        out_TE = x_TE.new_empty(x_TE.shape)
        self._kernels.rms_norm(
            x_TE, weight_E, out_TE, eps=eps, residual_TE=residual_TE, unit_offset=unit_offset
        )
        return out_TE

    def rotary(
        self,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        positions_T: torch.Tensor,
        cos_sin_PR: torch.Tensor,
        *,
        interleaved: bool = False,
    ) -> None:
        self._kernels.rotary(q_THD, k_TKD, positions_T, cos_sin_PR, interleaved=interleaved)

    def act_mul(self, gate_up_T2I: torch.Tensor, activation: Activation) -> torch.Tensor:
        tokens, columns = gate_up_T2I.shape
        out_TI = gate_up_T2I.new_empty((tokens, columns // 2))
        self._kernels.act_mul(gate_up_T2I, out_TI, activation=activation.value)
        return out_TI


class _Experts:
    """The Triton kernels' product of sorted rows; nothing is asked of the device."""

    capturable = True

    def __init__(self, weight_XOI: torch.Tensor) -> None:
        self._weight_XOI = weight_XOI

    def __call__(self, x_TI: torch.Tensor, ends_X: torch.Tensor) -> torch.Tensor:
        from quire_kernels.triton import grouped_linear

        out_TO = x_TI.new_empty((x_TI.shape[0], self._weight_XOI.shape[1]))
        grouped_linear(x_TI, self._weight_XOI, ends_X, out_TO)
        return out_TO


class _PackedHead(Head):
    """The C++ kernels' table."""

    def __init__(self, weight_VE: torch.Tensor) -> None:
        from quire_kernels.cpu import PackedTable

        self._table = PackedTable(weight_VE)

    def embed(self, ids_T: torch.Tensor) -> torch.Tensor:
        return self._table.rows(ids_T)

    def logits(self, hidden_RE: torch.Tensor) -> torch.Tensor:
        return self._table.logits(hidden_RE)
