"""The experts of a layer against a loop over tokens and their experts; which experts a token gets."""

from dataclasses import dataclass

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quire.interfaces.ops import Activation, GroupedProduct
from quire.models.experts import Experts
from quire.models.routing import choose_experts
from quire.models.spec import MoeSpec
from quire.testing.plain_ops import PlainOps

E, INNER = 6, 5


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@dataclass
class SomeSpec:
    """What experts want to know of a model."""

    activation: Activation = Activation.SILU
    merged_gate_up: bool = False


class GivenLinears:
    """Products with weights that are there, [X, O, I]."""

    def __init__(self, **weights: torch.Tensor) -> None:
        self.weights = weights

    def grouped(self, name: str, groups: object) -> GroupedProduct:
        del groups
        return PlainOps().grouped_linear(self.weights[name.rpartition(".")[2]])


class OneByOne:
    """Each token by itself, as Jiang et al. (2024) write the layer."""

    def __init__(self, gate_up_X2IE: torch.Tensor, down_XEI: torch.Tensor) -> None:
        self.gate_up, self.down = gate_up_X2IE, down_XEI

    def __call__(self, x_TE, chosen_Tk, shares_Tk):
        rows = []
        for x_E, chosen, shares in zip(x_TE, chosen_Tk.tolist(), shares_Tk.tolist(), strict=True):
            row = torch.zeros(E, dtype=torch.float64)
            for expert, share in zip(chosen, shares, strict=True):
                gate_I, up_I = (self.gate_up[expert] @ x_E).chunk(2)
                row += share * (self.down[expert] @ (gate_I * torch.sigmoid(gate_I) * up_I))
            rows.append(row)
        return torch.stack(rows)


@st.composite
def routings(draw):
    """Experts, and for each token the same number of different ones of them."""
    experts = draw(st.integers(1, 10))
    per_token = draw(st.integers(1, min(8, experts)))
    some = st.lists(st.integers(0, experts - 1), min_size=per_token, max_size=per_token, unique=True)
    return experts, draw(st.lists(some, min_size=1, max_size=9))


@settings(max_examples=80, deadline=None)
@given(routings())
@example((4, [[2]] * 9))  # all tokens to one expert, and three that have none
@example((9, [[0, 8], [8, 0], [0, 8]]))
@example((8, [[7, 6, 5, 4, 3, 2, 1, 0]] * 3))
@example((1, [[0]]))
def test_every_token_is_the_sum_of_its_experts(routing):
    experts, chosen = routing
    weights = {"gate_up": random(experts, 2 * INNER, E, seed=1), "down": random(experts, E, INNER, seed=2)}
    chosen_Tk = torch.tensor(chosen)
    x_TE, shares_Tk = random(len(chosen), E, seed=3), random(*chosen_Tk.shape, seed=4)
    moe = MoeSpec(experts=experts, experts_per_token=len(chosen[0]), intermediate_size=INNER, normalise=True)
    layer = Experts(spec=SomeSpec(), moe=moe, prefix="mlp", linears=GivenLinears(**weights), ops=PlainOps())
    expected = OneByOne(weights["gate_up"], weights["down"])(x_TE, chosen_Tk, shares_Tk)
    torch.testing.assert_close(layer(x_TE, chosen_Tk, shares_Tk), expected)


@settings(max_examples=60, deadline=None)
@given(routings(), st.booleans(), st.integers(0, 2**31))
def test_a_token_gets_the_experts_that_score_most(routing, normalise, seed):
    experts, chosen = routing
    tokens, per_token = len(chosen), len(chosen[0])
    scores_TX = 3 * random(tokens, experts, seed=seed).float()
    moe = MoeSpec(experts=experts, experts_per_token=per_token, intermediate_size=INNER, normalise=normalise)
    chosen_Tk, shares_Tk = choose_experts(scores_TX, moe=moe)
    for scores_X, got, shares in zip(scores_TX.double(), chosen_Tk.tolist(), shares_Tk, strict=True):
        best = sorted(range(experts), key=lambda expert: -scores_X[expert].item())[:per_token]
        assert got == best
        weights = scores_X.exp()[best]
        total = weights.sum() if normalise else scores_X.exp().sum()
        torch.testing.assert_close(shares.double(), weights / total, rtol=1e-5, atol=1e-6)


def test_a_token_of_no_numbers_gets_as_many_experts_as_any():
    """Rows that fill up a graph may be such, and no expert beyond the last may be written to or read."""
    scores_TX = torch.tensor([[float("nan")] * 5, [float("inf")] * 5, [float("-inf")] * 5, [1, 5, 2, 4, 3]])
    moe = MoeSpec(experts=5, experts_per_token=3, intermediate_size=INNER, normalise=True)
    chosen_Tk, _ = choose_experts(scores_TX, moe=moe)
    for chosen in chosen_Tk.tolist():
        assert len({*chosen}) == 3
        assert set(chosen) <= set(range(5))
    assert chosen_Tk[3].tolist() == [1, 3, 4]
