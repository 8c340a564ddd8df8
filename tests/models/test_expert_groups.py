"""The choice of experts within groups, against the definition token by token."""

import math

import pytest
import torch

from quire.models.routing import choose_experts
from quire.models.spec import ExpertGroups, MoeSpec

EXPERTS = 12


def naive(scores: list[float], correction: list[float], moe: MoeSpec) -> dict[int, float]:
    """A token's experts and their weights."""
    if moe.sigmoid:
        shares = [1 / (1 + math.exp(-score)) for score in scores]
    else:
        shares = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
    liked = [share + extra for share, extra in zip(shares, correction, strict=True)]
    candidates = range(EXPERTS)
    if moe.groups is not None:
        size = EXPERTS // moe.groups.groups
        members = [range(first, first + size) for first in range(0, EXPERTS, size)]
        worth = [
            sum(sorted((liked[e] for e in group), reverse=True)[: moe.groups.counted]) for group in members
        ]
        best = sorted(range(len(members)), key=lambda group: -worth[group])[: moe.groups.open]
        candidates = [expert for group in best for expert in members[group]]
    chosen = sorted(candidates, key=lambda expert: -liked[expert])[: moe.experts_per_token]
    total = sum(shares[expert] for expert in chosen) if moe.normalise else 1.0
    return {expert: shares[expert] / total * moe.scale for expert in chosen}


@pytest.mark.parametrize("sigmoid", [True, False])
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(
    "groups", [None, ExpertGroups(groups=4, open=2, counted=2), ExpertGroups(groups=6, open=3, counted=1)]
)
@pytest.mark.parametrize("corrected", [True, False])
def test_as_defined(sigmoid: bool, normalise: bool, groups: ExpertGroups | None, corrected: bool) -> None:
    moe = MoeSpec(
        experts=EXPERTS,
        experts_per_token=3,
        intermediate_size=1,
        normalise=normalise,
        sigmoid=sigmoid,
        groups=groups,
        scale=1.5,
    )
    generator = torch.Generator().manual_seed(0)
    scores_TX = torch.randn(60, EXPERTS, generator=generator) * 2
    # Some corrections push liking below zero: a closed group is not to be taken for a bad one.
    correction_X = torch.rand(EXPERTS, generator=generator) - 0.8 if corrected else None
    chosen_Tk, shares_Tk = choose_experts(scores_TX, moe=moe, correction_X=correction_X)
    extra = [0.0] * EXPERTS if correction_X is None else correction_X.tolist()
    for scores, chosen, shares in zip(
        scores_TX.tolist(), chosen_Tk.tolist(), shares_Tk.tolist(), strict=True
    ):
        assert dict(zip(chosen, shares, strict=True)) == pytest.approx(naive(scores, extra, moe), rel=1e-5)


def test_scores_that_are_not_numbers_choose_different_experts() -> None:
    moe = MoeSpec(
        experts=EXPERTS,
        experts_per_token=5,
        intermediate_size=1,
        normalise=True,
        sigmoid=True,
        groups=ExpertGroups(groups=4, open=2, counted=2),
    )
    chosen_Tk, _ = choose_experts(
        torch.full((3, EXPERTS), math.nan), moe=moe, correction_X=torch.zeros(EXPERTS)
    )
    assert all(len(set(chosen)) == 5 for chosen in chosen_Tk.tolist())
