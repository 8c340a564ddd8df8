"""Which experts a token goes to (Shazeer et al., 2017, section 2.1; Jiang et al., Mixtral, 2024, section 2.1;
DeepSeek-AI, "DeepSeek-V3", 2024, section 2.1.2).

Suffixes of shapes: T tokens, E hidden size, X experts, k experts of a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from quire.interfaces.ops import Ops
    from quire.models.spec import ExpertGroups, MoeSpec
    from quire.models.weights import Weights


class Router:
    """Scores every expert for every token, and chooses. Nothing is asked of the device."""

    def __init__(self, *, moe: MoeSpec, prefix: str, weights: Weights, ops: Ops) -> None:
        self._moe = moe
        self._dtype = torch.float32 if moe.exact_router else weights.dtype
        self._scores = ops.linear(weights.tensor(f"{prefix}.router.weight", dtype=self._dtype), None)
        self._correction_X = None
        if moe.correction:
            self._correction_X = weights.tensor(f"{prefix}.router.correction", dtype=torch.float32)

    def __call__(self, x_TE: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(a token's experts [T, k], int64, all different; their shares in its sum [T, k], float32).

        A token whose scores are not numbers goes to k experts as well: rows that fill up a graph may be such.
        """
        scores_TX = self._scores(x_TE.to(self._dtype))
        return choose_experts(scores_TX, moe=self._moe, correction_X=self._correction_X)


def choose_experts(
    scores_TX: torch.Tensor, *, moe: MoeSpec, correction_X: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """What `Router` returns, of scores."""
    shares_TX = scores_TX.float().sigmoid() if moe.sigmoid else scores_TX.softmax(dim=-1, dtype=torch.float32)
    liked_TX = shares_TX if correction_X is None else shares_TX + correction_X
    if moe.groups is not None:
        liked_TX = within_groups(liked_TX, moe.groups)
    shares_Tk, chosen_Tk = liked_TX.topk(moe.experts_per_token)
    if liked_TX is not shares_TX:
        shares_Tk = shares_TX.gather(1, chosen_Tk)
    if moe.normalise:
        shares_Tk = shares_Tk / shares_Tk.sum(dim=-1, keepdim=True)
    return chosen_Tk, shares_Tk if moe.scale == 1 else shares_Tk * moe.scale


def within_groups(liked_TX: torch.Tensor, groups: ExpertGroups) -> torch.Tensor:
    """Minus infinity where an expert's group is not open to the token."""
    liked_TGM = liked_TX.unflatten(1, (groups.groups, -1))  # M experts of each of G groups
    best_TG = liked_TGM.topk(groups.counted).values.sum(dim=-1)
    open_Tg = best_TG.topk(groups.open).indices
    closed_TG = torch.ones_like(best_TG, dtype=torch.bool).scatter_(1, open_Tg, False)
    return liked_TGM.masked_fill(closed_TG[..., None], float("-inf")).flatten(1)
