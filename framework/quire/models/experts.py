"""The experts of a layer, each computing the tokens that were routed to it (Gale et al., MegaBlocks, 2023).

Suffixes of shapes: T tokens, E hidden size, I inner size, k experts of a token, X experts, P = k T pairs of a
token and an expert.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.models.layout import gate_up_parts

if TYPE_CHECKING:
    import torch

    from quire.interfaces.ops import Ops
    from quire.models.linears import Linears
    from quire.models.spec import DecoderSpec, MoeSpec


class Experts:
    """Sorts pairs by expert, multiplies group by group, and puts the weighted results back.

    Every token's sum runs over its own experts in the order in which they were chosen, so that it does not
    depend on which other tokens are in the batch, nor on how the sort orders the pairs of one expert.
    """

    def __init__(self, *, spec: DecoderSpec, moe: MoeSpec, prefix: str, linears: Linears, ops: Ops) -> None:
        experts = [f"{prefix}.experts.{expert}" for expert in range(moe.experts)]
        parts = gate_up_parts(spec)
        self._ops = ops
        self._experts = moe.experts
        self._activation = spec.activation
        self._gate_up = linears.grouped(
            f"{prefix}.experts.gate_up", ([f"{expert}.{part}" for part in parts] for expert in experts)
        )
        self._down = linears.grouped(f"{prefix}.experts.down", ([f"{expert}.down"] for expert in experts))
        products = {f"{prefix}.experts.gate_up": self._gate_up, f"{prefix}.experts.down": self._down}
        asking = [name for name, product in products.items() if not product.capturable]
        self.uncapturable = f"{asking[0]} asks the device how many rows each expert has" if asking else None

    def __call__(self, x_TE: torch.Tensor, chosen_Tk: torch.Tensor, shares_Tk: torch.Tensor) -> torch.Tensor:
        pairs = self._ops.sort_pairs(chosen_Tk, experts=self._experts)
        gate_up_P2I = self._gate_up(x_TE.index_select(0, pairs.tokens_P), pairs.ends_X)
        down_PE = self._down(self._ops.act_mul(gate_up_P2I, self._activation), pairs.ends_X)
        return self._ops.sum_pairs(down_PE, pairs.places_Tk, shares_Tk)
