"""The Gumbel-max kernels and the filters before them under the interpreter, against float64 and sorting."""

import itertools

import pytest
import torch

from quire_kernels import reference
from quire_kernels import triton as kernels

# What is far below the largest logit becomes minus infinity, which numpy warns of.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")


def normal(rows: int, vocab: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed))


def check(logits_RV: torch.Tensor, temperatures: tuple[float, ...]) -> torch.Tensor:
    """Draw every row at the temperature of its turn; returns the tokens."""
    rows = len(logits_RV)
    generator = torch.Generator().manual_seed(1)
    parameters = {
        "temperatures_R": torch.tensor((temperatures * rows)[:rows], dtype=torch.float32),
        "seeds_R": torch.randint(-(2**63), 2**63 - 1, (rows,), generator=generator),
        "positions_R": torch.randint(0, 2**40, (rows,), generator=generator),
    }
    drawn = [torch.full((rows,), -1) for _ in range(2)]
    for ops, tokens_R in zip((kernels, reference), drawn, strict=True):
        ops.gumbel_argmax(logits_RV, tokens_R, **parameters)
    assert torch.equal(*drawn)
    return drawn[0]


@pytest.mark.parametrize("vocab", [1, 2, 300, 1024, 1025, 5003])
@pytest.mark.parametrize("rows", [1, 10, 33], ids="{} rows".format)  # in parts, in three, whole
def test_sizes(rows, vocab):
    check(normal(rows, vocab), (1.0, 0.0, 0.4, 3.0))


def test_draws_of_one_row_follow_its_distribution():
    logits_RV = normal(1, 7).expand(400, 7)
    counts_V = torch.bincount(check(logits_RV, (1.5,)), minlength=7)
    expected_V = 400 * torch.softmax(logits_RV[0] / 1.5, dim=-1)
    assert ((counts_V - expected_V).square() / expected_V).sum() < 24.3  # chi-square, 6 degrees: 1 in 2000


def test_barred_tokens_are_never_drawn():
    logits_RV = normal(20, 3000)
    logits_RV[:, 1::3] = float("-inf")
    logits_RV[10:, :2999] = float("-inf")
    tokens_R = check(logits_RV, (0.0, 1.0, 3.0))
    assert not (tokens_R % 3 == 1).any()
    assert (tokens_R[10:] == 2999).all()


def test_of_equal_logits_greedy_takes_the_first():
    flat_RV = torch.zeros(2, 5000)
    flat_RV[1, 2000:4000] = 1
    assert check(flat_RV, (0.0,)).tolist() == [0, 2000]


def test_extreme_logits_and_temperatures():
    logits_RV = normal(12, 200)
    logits_RV[:, 7], logits_RV[:, 8], logits_RV[:, 9] = 3e38, 2.9e38, -3e38
    check(logits_RV, (1e-30, 1.2e-38, 1.0, 3e38))


def test_logits_that_are_slices_of_a_wider_tensor():
    check(normal(6, 200)[:, 17:150], (1.0,))


def test_no_rows():
    check(torch.empty(0, 10), (1.0,))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_row_that_is_not_finite_has_a_token_of_the_vocabulary():
    logits_RV = torch.full((3, 3000), float("nan"))
    logits_RV[1] = float("-inf")
    logits_RV[2, ::2] = float("inf")
    tokens_R = torch.full((3,), -1)
    kernels.gumbel_argmax(
        logits_RV,
        tokens_R,
        temperatures_R=torch.ones(3),
        seeds_R=torch.zeros(3, dtype=torch.int64),
        positions_R=torch.zeros(3, dtype=torch.int64),
    )
    assert ((tokens_R >= 0) & (tokens_R < 3000)).all()


@pytest.mark.parametrize("rounded", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("vocab", [300, 4500])
def test_filters(vocab, rounded):
    """Exactly what the reference bars, and the other logits as they were."""
    choices = list(
        itertools.product((0.0, 0.3, 2.5), (vocab, 1, 40), (1.0, 0.9, 0.5, 1e-6), (0.0, 0.05, 1.0))
    )[:: 1 if vocab == 300 else 9]
    temperatures, top_ks, top_ps, min_ps = zip(*choices, strict=True)
    before_RV = normal(len(choices), vocab)
    if rounded:
        before_RV = before_RV.mul(2).round()
    before_RV[::4, ::2] = float("-inf")
    found_RV, expected_RV = before_RV.clone(), before_RV.clone()
    for ops, logits_RV in ((kernels, found_RV), (reference, expected_RV)):
        ops.filter_tokens(
            logits_RV,
            temperatures_R=torch.tensor(temperatures),
            top_ks_R=torch.tensor(top_ks, dtype=torch.int32),
            top_ps_R=torch.tensor(top_ps, dtype=torch.float64),
            min_ps_R=torch.tensor(min_ps, dtype=torch.float64),
        )
    assert torch.equal(found_RV, expected_RV)
    assert (expected_RV != before_RV).any()
