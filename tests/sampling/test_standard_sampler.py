"""The standard sampler against transformers' warpers, a plain inverse CDF, chi-square, and itself alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_rows import make_rows
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from quire.engine.request import SamplingParams
from quire.interfaces.sampler import Sampler
from quire.rng import uniform
from quire_plugins.samplers.standard import StandardSampler, StandardSamplerConfig, draw, kept_weights


@pytest.fixture
def sampler() -> Sampler:
    return StandardSampler(config=StandardSamplerConfig())


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def warped_probs(logits_V: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """The distribution [V] that transformers' generate samples from, in float64."""
    scores = logits_V.double()[None]
    warpers = [TemperatureLogitsWarper(params.temperature)]
    if params.top_k is not None:
        warpers.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        warpers.append(TopPLogitsWarper(params.top_p))
    if params.min_p > 0:
        warpers.append(MinPLogitsWarper(params.min_p))
    for warper in warpers:
        scores = warper(torch.zeros(1, 0, dtype=torch.int64), scores)
    return scores.softmax(dim=-1)[0]


PARAMS = [
    SamplingParams(temperature=1.0),
    SamplingParams(temperature=0.3),
    SamplingParams(temperature=7.0),
    SamplingParams(top_k=1),
    SamplingParams(top_k=17, temperature=1.5),
    SamplingParams(top_k=10**9),
    SamplingParams(top_p=0.1),
    SamplingParams(top_p=0.9, temperature=0.7),
    SamplingParams(top_p=0.999, temperature=3.0),
    SamplingParams(top_p=1e-9),
    SamplingParams(min_p=0.05),
    SamplingParams(min_p=1.0),
    SamplingParams(top_k=300, top_p=0.95, min_p=0.01, temperature=2.0),
    SamplingParams(top_k=5, top_p=0.5),
    SamplingParams(top_p=0.8, min_p=0.2, temperature=5.0),
]


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("vocab_size", [7, 300, 5000])
def test_what_may_be_drawn_is_what_transformers_keeps(vocab_size, ties):
    logits_RV = 2 * torch.randn(len(PARAMS), vocab_size, generator=torch.Generator().manual_seed(vocab_size))
    if ties:  # as bfloat16 logits have: several tokens at every border
        logits_RV = (logits_RV * 4).round() / 4
    weights_RV = kept_weights(logits_RV, PARAMS)
    for logits_V, weights_V, params in zip(logits_RV, weights_RV, PARAMS, strict=True):
        probs_V = warped_probs(logits_V, params)
        drawn_V = weights_V.double() / weights_V.sum()
        if ties and params.top_p < 1:  # which of several equal tokens is kept depends on their sort
            probs_V, drawn_V = probs_V.sort().values, drawn_V.sort().values
        assert (probs_V[drawn_V > 0] > 0).all(), params
        assert (drawn_V[probs_V >= 2.0**-39 * probs_V.max()] > 0).all(), params
        torch.testing.assert_close(drawn_V, probs_V, atol=1e-9, rtol=1e-5)


def test_top_p_keeps_the_first_of_equal_tokens():
    logits_RV = torch.tensor([[0.0, 1.0, 0.0, 0.0, 1.0, 0.0], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]])
    weights_RV = kept_weights(logits_RV, [SamplingParams(top_p=0.75), SamplingParams(top_p=0.5)])
    assert (weights_RV > 0).tolist() == [[True, True, True, False, True, False], [True] * 3 + [False] * 3]


def test_masked_tokens_are_never_kept():
    logits_RV = torch.randn(len(PARAMS), 50, generator=torch.Generator().manual_seed(0))
    logits_RV[:, 3:] = -math.inf
    assert (kept_weights(logits_RV, PARAMS)[:, 3:] == 0).all()


def test_tokens_are_those_of_an_inverse_cdf_at_the_uniform_of_seed_and_position(sampler):
    generator = torch.Generator().manual_seed(5)
    logits_RV = 3 * torch.randn(10 * len(PARAMS), 1000, generator=generator)
    params = PARAMS * 10
    seeds, positions = [2**64 - 1 - r for r in range(len(params))], [3 * r + 1 for r in range(len(params))]
    tokens = sampler.sample(logits_RV.clone(), make_rows(params, seeds=seeds, positions=positions))
    expected = [
        np.searchsorted(np.cumsum(warped_probs(logits_V, p).numpy()), uniform(seed, position), side="right")
        for logits_V, p, seed, position in zip(logits_RV, params, seeds, positions, strict=True)
    ]
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == expected


def test_the_ends_of_the_unit_interval_draw_tokens_that_have_weight():
    weights_RV = torch.tensor([[0, 0, 5, 0, 3, 0]] * 4)
    uniforms_R = torch.tensor([0.0, 0.6249, 0.625, 1 - 2.0**-53], dtype=torch.float64)
    assert draw(weights_RV, uniforms_R).tolist() == [2, 2, 4, 4]


@pytest.mark.parametrize(
    ("params", "critical"),
    [  # chi-square at p = 0.001 for the number of tokens kept, less one
        (SamplingParams(), 22.46),
        (SamplingParams(temperature=0.5, top_k=4), 16.27),
        (SamplingParams(top_p=0.7), 13.82),
    ],
    ids=["plain", "top_k", "top_p"],
)
def test_draws_follow_the_distribution(sampler, params, critical):
    logits_V, draws = torch.tensor([0.1, 2.0, -1.0, 1.0, 0.5, 1.5, -0.5]), 6_000
    rows = make_rows([params] * draws, seeds=range(1, draws + 1), positions=[9] * draws)
    tokens = sampler.sample(logits_V.repeat(draws, 1), rows)
    counts_V = torch.bincount(tokens, minlength=len(logits_V)).double()
    expected_V = warped_probs(logits_V, params) * draws
    kept = expected_V > 0
    assert counts_V[~kept].sum() == 0
    assert ((counts_V - expected_V)[kept] ** 2 / expected_V[kept]).sum() < critical


params_strategy = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 1e-50, 0.5, 1.0, 4.0]),
    top_k=st.sampled_from([None, 1, 2, 40, 400]),
    top_p=st.sampled_from([1.0, 0.99, 0.6, 0.01]),
    min_p=st.sampled_from([0.0, 0.1]),
)


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.tuples(params_strategy, st.integers(0, 2**64 - 1)), min_size=1, max_size=9),
    st.sampled_from([11, 700, 150_001]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_a_row_is_the_same_alone_and_in_any_batch(rows, vocab_size, ties, data_seed):
    logits_RV = 3 * torch.randn(len(rows), vocab_size, generator=torch.Generator().manual_seed(data_seed))
    if ties:
        logits_RV = logits_RV.bfloat16().float()
    params, seeds = [p for p, _ in rows], [seed for _, seed in rows]
    sampler = StandardSampler(config=StandardSamplerConfig())
    together = sampler.sample(logits_RV.clone(), make_rows(params, seeds=seeds, positions=[5] * len(rows)))
    alone = [
        sampler.sample(logits_RV[r : r + 1].clone(), make_rows([params[r]], seeds=[seeds[r]], positions=[5]))
        for r in range(len(rows))
    ]
    assert together.tolist() == [int(token) for token in alone]


def test_threads_do_not_change_the_weights(set_threads):
    logits_RV = 3 * torch.randn(len(PARAMS), 50_001, generator=torch.Generator().manual_seed(8))
    set_threads(1)
    one = kept_weights(logits_RV, PARAMS)
    set_threads(2)
    assert torch.equal(one, kept_weights(logits_RV, PARAMS))


def test_greedy_takes_the_first_of_the_largest_logits(sampler):
    logits_RV = torch.tensor([[0.0, 2.0, 2.0], [5.0, -1.0, 5.0], [-math.inf, -math.inf, 0.0]])
    rows = make_rows([SamplingParams(temperature=0.0)] * 3)
    assert sampler.sample(logits_RV, rows).tolist() == [1, 0, 2]


def test_a_tiny_temperature_is_greedy_and_a_huge_one_is_flat(sampler):
    logits_RV = torch.tensor([[1.0, 3.0, 2.0]]).repeat(300, 1)
    cold, hot = SamplingParams(temperature=1e-300), SamplingParams(temperature=1e300)
    assert set(sampler.sample(logits_RV, make_rows([cold] * 300)).tolist()) == {1}
    counts = torch.bincount(sampler.sample(logits_RV, make_rows([hot] * 300)))
    assert counts.tolist() == pytest.approx([100, 100, 100], abs=30)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_rows_that_are_no_distribution_harm_no_other_row(sampler, value):
    logits_RV = torch.randn(len(PARAMS), 300, generator=torch.Generator().manual_seed(3))
    broken_RV = torch.full_like(logits_RV, value)
    mixed_RV = torch.stack([logits_RV, broken_RV], dim=1).flatten(0, 1)
    seeds = list(range(len(PARAMS)))
    clean = sampler.sample(logits_RV, make_rows(PARAMS, seeds=seeds, positions=[4] * len(PARAMS)))
    mixed = sampler.sample(
        mixed_RV,
        make_rows(
            [p for p in PARAMS for _ in range(2)],
            seeds=[seed for seed in seeds for _ in range(2)],
            positions=[4] * 2 * len(PARAMS),
        ),
    )
    assert torch.equal(mixed[::2], clean)
    assert ((mixed >= 0) & (mixed < 300)).all()
    for params in PARAMS:  # nor do they fail alone
        assert 0 <= int(sampler.sample(broken_RV[:1].clone(), make_rows([params]))) < 300
