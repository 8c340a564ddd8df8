"""The Gumbel sampler against float64, chi-square, the theory of coupled draws, and itself in any batch."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sampling_rows import make_rows
from scipy import stats

from quire.config.compose import compose
from quire.engine.request import Request, SamplingParams
from quire.interfaces.sampler import Sampler
from quire.jobs.completions import Completions, Sample
from quire.jobs.feed import serve
from quire.registry import load_registry
from quire.rng import philox4x32
from quire.run import Run
from quire_kernels import reference
from quire_kernels.reference import gumbel as float64_gumbel
from quire_plugins.samplers.gumbel import GumbelSampler, GumbelSamplerConfig, gumbel_noise, to_gumbel


@pytest.fixture
def sampler() -> Sampler:
    return GumbelSampler(config=GumbelSamplerConfig())


def logits(rows: int, vocab_size: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(rows, vocab_size, generator=torch.Generator().manual_seed(seed))


def test_philox_of_tensors_is_that_of_integers():
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(0, 2**32, (6, 50), generator=generator)
    found = torch.stack(philox4x32(tuple(words[:4]), tuple(words[4:])), dim=1)
    assert found.tolist() == [list(philox4x32(tuple(each[:4]), tuple(each[4:]))) for each in words.T.tolist()]


@pytest.mark.parametrize("vocab_size", [1, 4, 333])
def test_noise_is_that_of_float64(vocab_size):
    seeds = [0, 7, 2**63, 2**64 - 1]
    positions = [1, 2**31, 5, 2**40 + 3]
    noise_RV = gumbel_noise(seeds, positions, vocab_size)
    assert noise_RV.dtype == torch.float32
    for noise_V, seed, position in zip(noise_RV, seeds, positions, strict=True):
        expected_V = float64_gumbel.gumbel_noise(seed, position, vocab_size)
        torch.testing.assert_close(noise_V.double(), expected_V, rtol=1e-6, atol=1e-6)


def test_noise_of_every_order_of_magnitude_and_of_the_ends():
    bits = {2**e + offset for e in range(33) for offset in (-2, -1, 0, 1)}
    bits |= {2**32 - b for b in bits}
    bits |= {int(2**31.5) + offset for offset in range(-300, 300)}  # where 1 + f jumps
    values = sorted(b for b in bits if 0 <= b < 2**32)
    expected = [-math.log(-math.log1p(-(b + 0.5) / 2**32)) for b in values]
    found = to_gumbel(torch.tensor(values))
    assert (found[0].item(), found[-1].item()) == pytest.approx((22.8739, -3.1300), abs=1e-3)
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=1e-6, atol=1e-6)


def test_noise_is_gumbel_and_independent():
    noise_RV = gumbel_noise(range(150), [3] * 150, 200)
    by_position_RV = gumbel_noise([3] * 150, range(150), 200)
    for each_RV in (noise_RV, by_position_RV):
        numbers = each_RV.double().numpy()
        assert stats.kstest(numbers.ravel(), "gumbel_r").pvalue > 0.001
        shares = np.exp(-np.exp(-numbers))
        for left, right in ((shares[:, :-1], shares[:, 1:]), (shares[:-1], shares[1:])):
            cells, _, _ = np.histogram2d(left.ravel(), right.ravel(), bins=8, range=[[0, 1], [0, 1]])
            expected = left.size / 64
            assert ((cells - expected) ** 2 / expected).sum() < 103.4  # chi-square, 63 degrees, p = 0.001
    assert noise_RV[3].tolist() == by_position_RV[3].tolist()


PARAMS = [
    SamplingParams(),
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=0.3),
    SamplingParams(temperature=5.0),
    SamplingParams(top_k=1),
    SamplingParams(top_k=9, temperature=1.5),
    SamplingParams(top_k=10**9),
    SamplingParams(top_p=0.6, temperature=2.0),
    SamplingParams(min_p=0.1),
    SamplingParams(top_k=40, top_p=0.9, min_p=0.01, temperature=3.0),
]


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("vocab_size", [7, 300])
def test_tokens_are_those_of_float64(sampler, vocab_size, ties):
    params = PARAMS * 8
    logits_RV = logits(len(params), vocab_size)
    if ties:
        logits_RV = logits_RV.mul(2).round()
    seeds, positions = (
        [2**64 - 1 - 7 * r for r in range(len(params))],
        [3 * r + 1 for r in range(len(params))],
    )
    tokens_R = sampler.sample(logits_RV.clone(), make_rows(params, seeds=seeds, positions=positions))
    temperatures_R = torch.tensor([p.temperature for p in params])
    reference.filter_tokens(
        logits_RV,
        temperatures_R=temperatures_R,
        top_ks_R=torch.tensor([min(p.top_k or vocab_size, vocab_size) for p in params]),
        top_ps_R=torch.tensor([p.top_p for p in params]),
        min_ps_R=torch.tensor([p.min_p for p in params]),
    )
    expected_R = torch.empty_like(tokens_R)
    reference.gumbel_argmax(
        logits_RV,
        expected_R,
        temperatures_R=temperatures_R,
        seeds_R=torch.tensor([seed - 2**64 for seed in seeds]),
        positions_R=torch.tensor(positions),
    )
    assert torch.equal(tokens_R, expected_R)


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        (SamplingParams(), [0, 1, 2, 3, 4, 5, 6]),
        (SamplingParams(temperature=0.5), [0, 1, 2, 3, 4, 5, 6]),
        (SamplingParams(temperature=0.5, top_k=4), [1, 3, 4, 5]),
        (SamplingParams(top_p=0.7), [1, 3, 5]),
        (SamplingParams(min_p=0.3), [1, 3, 5]),
    ],
    ids=["plain", "cold", "top_k", "top_p", "min_p"],
)
def test_draws_follow_the_distribution(sampler, params, kept):
    logits_V, draws = torch.tensor([0.1, 2.0, -1.0, 1.0, 0.5, 1.5, -0.5]), 8_000
    rows = make_rows([params] * draws, seeds=range(1, draws + 1), positions=[9] * draws)
    tokens_R = sampler.sample(logits_V.repeat(draws, 1), rows)
    counts = torch.bincount(tokens_R, minlength=len(logits_V)).double()
    assert counts[kept].sum() == draws
    expected = draws * (logits_V[kept].double() / params.temperature).softmax(dim=-1)
    assert stats.chisquare(counts[kept], expected).pvalue > 0.001


def test_draws_of_nearly_equal_distributions_mostly_agree(sampler):
    """As often as the theory of independent exponentials says, which is within the bound of the docstring."""
    draws = 8_000
    p_logits_V = logits(1, 30, seed=1)[0]
    q_logits_V = p_logits_V + 0.3 * logits(1, 30, seed=2)[0]
    rows = make_rows([SamplingParams()] * draws, seeds=range(1, draws + 1), positions=[4] * draws)
    ours, theirs = (sampler.sample(each_V.repeat(draws, 1), rows) for each_V in (p_logits_V, q_logits_V))
    p_V, q_V = p_logits_V.double().softmax(-1), q_logits_V.double().softmax(-1)
    agree = (1 / torch.maximum(p_V / p_V[:, None], q_V / q_V[:, None]).sum(dim=1)).sum().item()
    apart = 0.5 * (p_V - q_V).abs().sum().item()
    assert 1 - agree <= 2 * apart / (1 + apart)
    deviation = math.sqrt(agree * (1 - agree) / draws)
    assert (ours == theirs).double().mean().item() == pytest.approx(agree, abs=4 * deviation)


def test_large_rows_are_the_same_alone_and_in_any_batch(sampler):
    """Rows that do not fit one slab together."""
    params = [SamplingParams(), SamplingParams(temperature=0.0), SamplingParams(top_k=50), SamplingParams()]
    logits_RV = logits(4, 150_001)
    rows = make_rows(params, seeds=[5, 6, 7, 8])
    together = sampler.sample(logits_RV.clone(), rows).tolist()
    assert together == [
        sampler.sample(logits_RV[r : r + 1].clone(), rows.select([r])).item() for r in range(4)
    ]


def test_greedy_takes_the_first_of_the_largest_logits(sampler):
    logits_RV = torch.tensor(
        [[0.0, 2.0, 2.0], [5.0, -1.0, 5.0], [-math.inf, -math.inf, 0.0], [9.0, 0.0, 0.0]]
    )
    params = [SamplingParams(temperature=0.0)] * 3 + [SamplingParams()]
    assert sampler.sample(logits_RV, make_rows(params)).tolist() == [1, 0, 2, 0]
    assert sampler.sample(logits_RV[:3], make_rows(params[:3])).tolist() == [1, 0, 2]


def test_a_tiny_temperature_is_greedy_and_a_huge_one_is_flat(sampler):
    """Although both of the largest logits, divided by it, are beyond float32."""
    logits_RV = torch.tensor([[1.0, 3.0, 2.9]]).repeat(300, 1)
    cold, hot = SamplingParams(temperature=1e-300), SamplingParams(temperature=1e300)
    assert set(sampler.sample(logits_RV, make_rows([cold] * 300)).tolist()) == {1}
    counts = torch.bincount(sampler.sample(logits_RV, make_rows([hot] * 300)))
    assert counts.tolist() == pytest.approx([100, 100, 100], abs=30)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_rows_that_are_no_distribution_harm_no_other_row(sampler, value):
    clean_RV = logits(len(PARAMS), 300)
    mixed_RV = torch.stack([clean_RV, torch.full_like(clean_RV, value)], dim=1).flatten(0, 1)
    rows = make_rows(PARAMS)
    twice = rows.select([r for r in range(len(PARAMS)) for _ in range(2)])
    tokens = sampler.sample(mixed_RV, twice).tolist()
    assert tokens[::2] == sampler.sample(clean_RV, rows).tolist()
    assert all(0 <= token < 300 for token in tokens)


def generate(requests: list[Request], *overrides: str) -> tuple[dict[str, tuple[Sample, ...]], int]:
    """Samples by request, and how often a sequence was preempted."""
    config = compose(
        [
            "sampler=gumbel",
            "dtype=float32",
            "device=cpu",
            "engine.threads=1",
            "engine.block_size=16",
            *overrides,
        ]
    )
    engine = Run(config=config, registry=load_registry(), directory=Path()).engine(with_text=False)
    completions, found, preempted = Completions(), {}, 0
    try:
        for outputs in serve(engine, completions.watch(requests)):
            for whole in completions.take(outputs):
                found[whole.request.id] = whole.samples
            preempted += sum(record.num_preempted for record in engine.take_records())
    finally:
        engine.close()
    return found, preempted


def test_through_the_engine_tokens_are_the_same_alone_and_under_preemption():
    kinds = [
        SamplingParams(temperature=0.8, max_tokens=40, ignore_eos=True, seed=1, n=2, logprobs=2),
        SamplingParams(temperature=1.0, max_tokens=40, ignore_eos=True, seed=2, top_k=50, top_p=0.9),
        SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True),
        SamplingParams(temperature=1.2, max_tokens=40, ignore_eos=True, seed=2, frequency_penalty=0.5),
    ]
    requests = [
        Request(id=str(i), prompt_token_ids=tuple(range(5, 15 + i)), sampling=params)
        for i, params in enumerate(kinds)
    ]
    roomy, none = generate(requests)
    tight, some = generate(requests, "engine.max_model_tokens=64", "engine.kv_bytes=576KiB")
    alone, _ = generate(requests, "engine.max_sequences=1")
    assert none == 0
    assert some > 0
    for id, samples in roomy.items():
        tokens = [sample.token_ids for sample in samples]
        assert tokens == [sample.token_ids for sample in tight[id]] == [s.token_ids for s in alone[id]]
        assert all(len(each) == 40 for each in tokens)
    first, second = roomy["0"]
    assert first.token_ids != second.token_ids
    assert [entry.token_id for entry in first.logprobs] == first.token_ids


def test_registering_imports_no_torch():
    code = "import sys, quire_plugins.samplers.gumbel; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=True)
