"""The kernels by which `gumbel` samples on a GPU draw what `gumbel` draws on a CPU."""

import random

import pytest
import torch
import triton
import triton.language as tl

from quire.engine.request import SamplingParams
from quire.testing.sampling_rows import make_rows
from quire_kernels.triton.gumbel import _noise
from quire_plugins.samplers.gumbel import GumbelSampler, GumbelSamplerConfig, draw_by_kernel, gumbel_noise

# What is far below the largest logit becomes minus infinity, which numpy warns of.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

VOCABULARY = 400


@triton.jit
def noise_kernel(seeds, positions, out, GROUPS: tl.constexpr):
    """Grid (rows): [R, 4 * GROUPS] of noise."""
    r = tl.program_id(0)
    group_G = tl.arange(0, GROUPS)
    noise_GW = _noise(tl.load(seeds + r), tl.load(positions + r), group_G, GROUPS)
    token_GW = 4 * group_G[:, None] + tl.arange(0, 4)[None, :]
    tl.store(out + r * (4 * GROUPS) + token_GW, noise_GW)


def test_the_noise_is_the_same_to_the_last_bit():
    draw = random.Random(1)
    seeds = [draw.getrandbits(64) for _ in range(40)]
    positions = [draw.getrandbits(40) for _ in range(40)]
    signed = [seed - 2**64 if seed >= 2**63 else seed for seed in seeds]
    out_RV = torch.empty(40, 4096)
    noise_kernel[(40,)](torch.tensor(signed), torch.tensor(positions), out_RV, GROUPS=1024)
    assert torch.equal(out_RV, gumbel_noise(seeds, positions, 4096))


@pytest.mark.parametrize("count", [120, 3], ids=["whole rows", "rows in parts"])
def test_the_same_tokens_as_on_a_cpu(count):
    draw = random.Random(0)
    vocab = VOCABULARY if count > 9 else 5 * VOCABULARY
    params = [
        SamplingParams(
            temperature=draw.choice((0.0, 1e-45, 0.5, 1.0, 1e39)),
            top_k=draw.choice((None, 1, 3, 50, vocab, 10 * vocab)),
            top_p=draw.choice((1.0, 0.999, 0.9, 0.4)),
            min_p=draw.choice((0.0, 0.0, 1e-3, 0.1, 1.0)),
        )
        for _ in range(count)
    ]
    rows = make_rows(
        params,
        seeds=[draw.getrandbits(64) for _ in params],
        histories=[[0] * draw.randint(1, 9) for _ in params],
    )
    generator = torch.Generator().manual_seed(0)
    logits_RV = torch.randn(count, vocab, generator=generator).mul(8).round().div(2)
    logits_RV[::3, 5::2] = float("-inf")
    expected_R = GumbelSampler(config=GumbelSamplerConfig()).sample(logits_RV.clone(), rows)
    assert torch.equal(draw_by_kernel(logits_RV, rows), expected_R)
