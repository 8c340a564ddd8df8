"""The kernel by which `standard` samples on a GPU draws what `standard` draws on a CPU."""

import random

import pytest
import torch

from quire.engine.request import SamplingParams
from quire.testing.sampling_rows import make_rows
from quire_plugins.samplers.by_kernel import sample_by_kernel
from quire_plugins.samplers.standard import StandardSampler, StandardSamplerConfig

# What is far below the largest logit becomes minus infinity, which numpy warns of.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

VOCABULARY = 400


def test_the_same_tokens_as_on_a_cpu():
    draw = random.Random(0)
    params = [
        SamplingParams(
            temperature=draw.choice((0.0, 1e-45, 0.5, 1.0, 1e39)),
            top_k=draw.choice((None, 1, 3, 50, VOCABULARY, 10 * VOCABULARY)),
            top_p=draw.choice((1.0, 0.999, 0.9, 0.4)),
            min_p=draw.choice((0.0, 0.0, 1e-3, 0.1, 1.0)),
        )
        for _ in range(120)
    ]
    rows = make_rows(
        params,
        seeds=[draw.getrandbits(64) for _ in params],
        histories=[[0] * draw.randint(1, 9) for _ in params],
    )
    generator = torch.Generator().manual_seed(0)
    logits_RV = torch.randn(len(params), VOCABULARY, generator=generator).mul(8).round().div(2)
    logits_RV[::3, 5::2] = float("-inf")
    expected_R = StandardSampler(config=StandardSamplerConfig()).sample(logits_RV.clone(), rows)
    assert torch.equal(sample_by_kernel(logits_RV, rows), expected_R)


def test_philox_of_large_seeds_and_positions():
    """`quire.rng` in the kernel: with a flat row the token tells the number's leading bits."""
    params = [SamplingParams(temperature=1.0)] * 64
    seeds = [2**64 - 1 - 977 * r for r in range(64)]
    rows = make_rows(params, seeds=seeds, histories=[[0] * (1 + r) for r in range(64)])
    flat_RV = torch.zeros(64, 4000)
    expected_R = StandardSampler(config=StandardSamplerConfig()).sample(flat_RV.clone(), rows)
    assert len(expected_R.unique()) > 55
    assert torch.equal(sample_by_kernel(flat_RV, rows), expected_R)
