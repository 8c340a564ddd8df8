"""A feed-forward layer of experts, of which each token uses a few (Jiang et al., Mixtral, 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from quire.models.layout import gate_up_parts

if TYPE_CHECKING:
    from quire.interfaces.ops import Ops
    from quire.models.linears import Linears
    from quire.models.spec import DecoderSpec, MoeSpec
    from quire.models.weights import Weights


class Moe:
    """Routes tokens, sorts them by expert, multiplies group by group, and puts the weighted results back.

    Every token's sum runs over its own experts in the order of their weight, so that it does not depend on
    which other tokens are in the batch.

    X  token-expert pairs, k times T
    """

    def __init__(
        self,
        *,
        spec: DecoderSpec,
        moe: MoeSpec,
        prefix: str,
        weights: Weights,
        linears: Linears,
        ops: Ops,
    ) -> None:
        experts = [f"{prefix}.experts.{expert}" for expert in range(moe.experts)]
        parts = gate_up_parts(spec)
        router_weight = weights.tensor(f"{prefix}.router.weight")
        self._moe = moe
        self._act_mul = ops.act_mul
        self._activation = spec.activation
        self._expert_ids = torch.arange(moe.experts, device=router_weight.device)
        self._router = ops.linear(router_weight, None)
        self._gate_up = linears.grouped(
            f"{prefix}.experts.gate_up", ([f"{expert}.{part}" for part in parts] for expert in experts)
        )
        self._down = linears.grouped(f"{prefix}.experts.down", ([f"{expert}.down"] for expert in experts))

    def __call__(self, x_TE: torch.Tensor) -> torch.Tensor:
        per_token = self._moe.experts_per_token
        shares_Tk, chosen_Tk = self._router(x_TE).softmax(dim=-1, dtype=torch.float32).topk(per_token)
        if self._moe.normalise:
            shares_Tk = shares_Tk / shares_Tk.sum(dim=-1, keepdim=True)
        sorted_X, order_X = chosen_Tk.flatten().sort()
        ends = torch.searchsorted(sorted_X, self._expert_ids, right=True, out_int32=True)
        gate_up_X2I = self._gate_up(x_TE[order_X // per_token], ends)
        down_XE = self._down(self._act_mul(gate_up_X2I, self._activation), ends)
        back_TkE = torch.empty_like(down_XE).index_copy_(0, order_X, down_XE).unflatten(0, (-1, per_token))
        return (back_TkE * shares_Tk[:, :, None].to(back_TkE.dtype)).sum(dim=1)
