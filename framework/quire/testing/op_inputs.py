"""What the operations of a model are tried with.

Shapes as in `quire.interfaces.ops`: T tokens, E, I and O dimensions, H heads of D dimensions, P pairs of a
token and an expert.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.interfaces.ops import Activation, Ops

if TYPE_CHECKING:
    import torch

EPS = 1e-5
"""Of norms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpInputs:
    """Tensors of one type on one device; the same shape and seed are the same numbers."""

    device: str
    dtype: torch.dtype

    def random(self, *shape: int, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
        """From a normal distribution of that standard deviation."""
        import torch

        generator = torch.Generator().manual_seed(seed + sum(shape))
        return (scale * torch.randn(shape, generator=generator)).to(self.device, self.dtype)

    def rows(self, tokens: int, size: int, seed: int = 0) -> torch.Tensor:
        """Rows with a mean of about 1, slices of wider ones; one is so small that `EPS` counts, another so
        large that its squares need more than 16 bits.
        """
        x_TE = self.random(tokens, size + 8, seed=seed)[:, :size]
        x_TE += 1
        x_TE[1:2] *= 1e-3
        x_TE[2:3] *= 300
        return x_TE

    def angles(self, positions: int, dims: int) -> torch.Tensor:
        """Cosines and sines for so many positions, of `dims` dimensions that turn."""
        import torch

        turns_Pr = torch.outer(torch.arange(float(positions)), 0.8 ** torch.arange(dims // 2))
        return torch.cat((turns_Pr.cos(), turns_Pr.sin()), dim=1).to(self.device)

    def rowwise(self, ops: Ops) -> Iterator[tuple[str, Callable[[torch.Tensor], torch.Tensor]]]:
        """Every operation as a function of rows of 64 numbers, with its name."""
        import torch

        weight_OI = self.random(48, 64, scale=1 / 8)
        weight_E, bias_E = self.random(64), self.random(64, seed=1)
        table_PR = self.angles(6, 32)
        grouped = ops.grouped_linear(iter([weight_OI.clone(), weight_OI.clone()]))

        def rotated(x_TE: torch.Tensor) -> torch.Tensor:
            q_THD, k_TKD = x_TE.clone().unflatten(1, (2, 32)), x_TE.clone().unflatten(1, (2, 32))
            positions_T = torch.full((len(x_TE),), 5, device=self.device)
            ops.rotary(q_THD, k_TKD, positions_T, table_PR)
            return torch.cat((q_THD, k_TKD), dim=1)

        def in_the_last_group(x_TI: torch.Tensor) -> torch.Tensor:
            ends_G = torch.tensor([0, len(x_TI)], dtype=torch.int32, device=self.device)
            return grouped(x_TI, ends_G)

        def summed(y_PE: torch.Tensor) -> torch.Tensor:
            places_T1 = torch.arange(len(y_PE), device=self.device)[:, None]
            shares_T1 = torch.full((len(y_PE), 1), 0.75, device=self.device)
            return ops.sum_pairs(y_PE, places_T1, shares_T1)

        yield "linear", ops.linear(weight_OI.clone(), None)
        yield "logits", ops.head(weight_OI.clone()).logits
        yield "grouped_linear", in_the_last_group
        yield "rms_norm", lambda x: ops.rms_norm(x, weight_E, eps=EPS)
        yield "rms_norm", lambda x: ops.rms_norm(x.clone(), weight_E, eps=EPS, residual_TE=x.clone())
        yield "layer_norm", lambda x: ops.layer_norm(x, weight_E, bias_E, eps=EPS)
        yield "rotary", rotated
        yield "sum_pairs", summed
        for activation in Activation:
            yield activation.value, lambda x, activation=activation: ops.act_mul(x, activation)
