"""Sampling by bisection under the interpreter, against sorting."""

import itertools

import pytest
import torch

from quire_kernels import reference
from quire_kernels import triton as kernels

# What is far below the largest logit becomes minus infinity, which numpy warns of.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

TEMPERATURES = (0.0, 0.3, 1.0, 2.5)
TOP_KS = (None, 1, 5, 40)
TOP_PS = (1.0, 1 - 1e-12, 0.9, 0.5, 1e-6)
MIN_PS = (0.0, 0.05, 1.0)


def normal(rows: int, vocab: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed))


def check(logits_RV: torch.Tensor, choices: list[tuple[float, int | None, float, float]]) -> torch.Tensor:
    """Draw every row by the parameters (temperature, top_k, top_p, min_p) of its turn; returns the tokens."""
    rows, vocab = logits_RV.shape
    chosen = [choices[r % len(choices)] for r in range(rows)]
    generator = torch.Generator().manual_seed(1)
    parameters = {
        "temperatures_R": torch.tensor([temperature for temperature, *_ in chosen]),
        "top_ks_R": torch.tensor([min(top_k or vocab, vocab) for _, top_k, *_ in chosen], dtype=torch.int32),
        "top_ps_R": torch.tensor([top_p for *_, top_p, _ in chosen], dtype=torch.float64),
        "min_ps_R": torch.tensor([min_p for *_, min_p in chosen], dtype=torch.float64),
        "seeds_R": torch.randint(-(2**63), 2**63 - 1, (rows,), generator=generator),
        "positions_R": torch.randint(0, 2**40, (rows,), generator=generator),
    }
    drawn = [torch.full((rows,), -1) for _ in range(2)]
    for ops, tokens_R in zip((kernels, reference), drawn, strict=True):
        ops.sample_tokens(logits_RV, tokens_R, **parameters)
    assert torch.equal(*drawn)
    return drawn[0]


@pytest.mark.parametrize("rounded", [False, True], ids=["distinct", "ties"])
def test_combinations(rounded):
    choices = list(itertools.product(TEMPERATURES, TOP_KS, TOP_PS, MIN_PS))[rounded::3]
    logits_RV = normal(len(choices), 300)
    check(logits_RV.mul(2).round() if rounded else logits_RV, choices)


@pytest.mark.parametrize("vocab", [1, 2, 300, 4096, 4097, 9000])
def test_sizes_of_vocabularies(vocab):
    check(normal(12, vocab), list(itertools.product((0.0, 1.0), (None, 40), (1.0, 0.95, 0.3), (0.0,))))


def test_draws_of_one_row_follow_its_distribution():
    logits_RV = normal(1, 7).expand(400, 7)
    counts_V = torch.bincount(check(logits_RV, [(1.5, None, 1.0, 0.0)]), minlength=7)
    expected_V = 400 * torch.softmax(logits_RV[0] / 1.5, dim=-1)
    assert ((counts_V - expected_V).square() / expected_V).sum() < 24.3  # chi-square, 6 degrees: 1 in 2000


def test_barred_tokens_are_never_drawn():
    logits_RV = normal(60, 150)
    logits_RV[:, 1::3] = float("-inf")
    logits_RV[30:, 3:] = float("-inf")  # fewer are left than top-k asks for
    tokens_R = check(logits_RV, list(itertools.product((0.0, 1.0, 3.0), (None, 40), (1.0, 0.9), (0.0, 0.01))))
    assert not (tokens_R % 3 == 1).any()


def test_of_equal_logits_greedy_takes_the_first_and_top_p_keeps_the_first():
    assert check(torch.zeros(1, 5000), [(0.0, None, 1.0, 0.0)]).item() == 0
    tokens_R = check(torch.zeros(40, 5000), [(1.0, None, 0.001, 0.0)])
    assert set(tokens_R.tolist()) == {0, 1, 2, 3, 4}


def test_extreme_logits():
    logits_RV = normal(24, 200)
    logits_RV[:, 7] = 3e38
    logits_RV[:, 9] = -3e38
    logits_RV[12:, 8] = 3e38
    check(logits_RV, list(itertools.product((1e-30, 1.0, 3e38), (None, 2), (1.0, 0.7), (0.0, 0.5))))


def test_logits_that_are_slices_of_a_wider_tensor():
    check(normal(6, 200)[:, 17:150], [(1.0, 20, 0.9, 0.01)])


def test_no_rows():
    check(torch.empty(0, 10), [(1.0, None, 1.0, 0.0)])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_row_that_is_not_finite_ends():
    """Its token means nothing: the caller has sorted such rows out, and the others must not wait for them."""
    logits_RV = torch.full((3, 200), float("nan"))
    logits_RV[1] = float("-inf")
    logits_RV[2, ::2] = float("inf")
    tokens_R = torch.full((3,), -1)
    kernels.sample_tokens(
        logits_RV,
        tokens_R,
        temperatures_R=torch.full((3,), 1.0),
        top_ks_R=torch.full((3,), 5, dtype=torch.int32),
        top_ps_R=torch.full((3,), 0.9, dtype=torch.float64),
        min_ps_R=torch.full((3,), 0.1, dtype=torch.float64),
        seeds_R=torch.zeros(3, dtype=torch.int64),
        positions_R=torch.zeros(3, dtype=torch.int64),
    )
    assert ((tokens_R >= 0) & (tokens_R < 200)).all()
