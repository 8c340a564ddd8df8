"""Log probabilities against a float64 softmax, sorted in Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from quire.runtime.logprobs import row_logprobs
from quire.runtime.readback import Readback


def token_logprobs(logits_RV, tokens, top):
    return row_logprobs(logits_RV, torch.tensor(tokens), top, Readback(torch.device("cpu"))).read()


def test_logprobs_ranks_and_top_tokens_are_those_of_the_distribution():
    logits_RV = 4 * torch.randn(6, 301, generator=torch.Generator().manual_seed(2))
    tokens, top = [0, 300, 17, 5, 9, 1], [None, 0, 5, 1, 10**6, None]
    results = token_logprobs(logits_RV, tokens, top)
    assert [result is None for result in results] == [number is None for number in top]
    for r in range(1, 5):
        exact_V = np.log(torch.softmax(logits_RV[r].double(), dim=-1).numpy())
        order = np.argsort(-exact_V)
        assert results[r].token_id == tokens[r]
        assert results[r].logprob == pytest.approx(exact_V[tokens[r]], abs=1e-5)
        assert order[results[r].rank - 1] == tokens[r]
        assert [token for token, _ in results[r].top] == order[: top[r]].tolist()
        assert [value for _, value in results[r].top] == pytest.approx(
            exact_V[order[: top[r]]].tolist(), abs=1e-5
        )


def test_equal_tokens_share_the_best_rank_and_masked_ones_have_none_of_the_mass():
    logits_RV = torch.tensor([[1.0, 1.0, 0.0, -math.inf]])
    for token, rank in ((0, 1), (1, 1), (2, 3), (3, 4)):
        assert token_logprobs(logits_RV, [token], [0])[0].rank == rank
    assert token_logprobs(logits_RV, [3], [0])[0].logprob == -math.inf


def test_no_row_wants_any():
    assert token_logprobs(torch.zeros(2, 3), [1, 2], [None, None]) == [None, None]


def test_the_logits_are_left_alone():
    logits_RV = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    before_RV = logits_RV.clone()
    token_logprobs(logits_RV, [1, 2, 3], [2, None, 3])
    assert torch.equal(logits_RV, before_RV)
