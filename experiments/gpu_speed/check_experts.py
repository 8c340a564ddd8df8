"""A layer of experts, from scores to weighted sums, against a loop in float64. On a GPU it also has to ask
the device nothing, and to be repeated by a CUDA graph with other tokens than those it was captured with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from check_kernels import Case, Draw
from torch import Tensor

from quire.interfaces.ops import Activation, GroupedProduct
from quire.models.experts import Experts
from quire.models.routing import choose_experts
from quire.models.spec import MoeSpec
from quire.runtime.cuda_graph import CudaCapture
from quire_plugins.ops.native import NativeOps


def experts(draw: Draw, dry: bool) -> Iterator[Case]:
    """Few experts and many, one token and as many as a prompt has."""
    many = ((128, 8, 1), (128, 8, 64), (128, 8, 1500))
    for count, per_token, tokens in ((4, 2, 3),) if dry else ((8, 2, 1), (8, 2, 64), *many):
        sizes = {"experts": count, "per_token": per_token, "tokens": tokens, "hidden": 48 if dry else 512}
        name = f"layer of {count} experts, {per_token} of them a token, {tokens} tokens"
        yield name, lambda s=sizes: _layer(draw, **s)


def _layer(draw: Draw, *, experts: int, per_token: int, tokens: int, hidden: int) -> tuple[Tensor, Tensor]:
    """What the layer makes of random tokens, and on a GPU a graph as well."""
    inner = hidden // 2
    weights = {
        "gate_up": draw.normal(experts, 2 * inner, hidden) * hidden**-0.5,
        "down": draw.normal(experts, hidden, inner) * inner**-0.5,
    }
    moe = MoeSpec(experts=experts, experts_per_token=per_token, intermediate_size=inner, normalise=True)
    ops = NativeOps(config=NativeOps.Config(), device="cuda")
    layer = Experts(spec=_Spec(), moe=moe, prefix="mlp", linears=_Given(ops, weights), ops=ops)
    x_TE, scores_TX = draw.normal(tokens, hidden), draw.normal(tokens, experts).float()
    expected = _one_by_one(weights, x_TE, scores_TX, per_token)

    def compute() -> Tensor:
        return layer(x_TE, *choose_experts(scores_TX, moe=moe))

    if draw.device != "cuda":
        return compute(), expected
    compute()  # compiles
    try:
        torch.cuda.set_sync_debug_mode("error")
        asked_nothing = compute()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    given = x_TE.clone(), scores_TX.clone()
    x_TE.zero_(), scores_TX.zero_()  # as in rows that fill up a step: all to the same experts
    replay, replayed = CudaCapture()(compute)
    x_TE.copy_(given[0]), scores_TX.copy_(given[1])
    replay()
    return torch.cat([asked_nothing, replayed]), torch.cat([expected, expected])


def _one_by_one(weights: dict[str, Tensor], x_TE: Tensor, scores_TX: Tensor, per_token: int) -> Tensor:
    gate_up, down = (weight.cpu().double() for weight in weights.values())
    rows = []
    for x_E, scores_X in zip(x_TE.cpu().double(), scores_TX.cpu().double(), strict=True):
        best, chosen = scores_X.sort(descending=True)
        shares = best[:per_token].softmax(0)
        gate_kI, up_kI = (gate_up[chosen[:per_token]] @ x_E).chunk(2, dim=1)
        inner_kI = torch.nn.functional.silu(gate_kI) * up_kI
        rows.append((shares[:, None] * torch.einsum("kEI,kI->kE", down[chosen[:per_token]], inner_kI)).sum(0))
    return torch.stack(rows)


@dataclass(frozen=True)
class _Spec:
    """What experts want to know of a model."""

    activation: Activation = Activation.SILU
    merged_gate_up: bool = False


class _Given:
    """Products with weights that are there."""

    def __init__(self, ops: NativeOps, weights: dict[str, Tensor]) -> None:
        self._ops = ops
        self._weights = weights

    def grouped(self, name: str, groups: object) -> GroupedProduct:
        del groups
        return self._ops.grouped_linear(self._weights[name.rpartition(".")[2]])
