"""Draws by the Gumbel-max trick (Gumbel, "Statistical theory of extreme values and some practical
applications", 1954; Maddison, Tarlow and Minka, "A* sampling", NeurIPS 2014; reviewed by Huijben, Kool,
Paulus and van Sloun, 2022): a row's token is that of the largest logit / temperature + noise, the noise a
standard Gumbel number for each token of the vocabulary.

It is there for research. The noise is a function of the request's seed, the token's position and its index in
the vocabulary, neither of the logits nor of the batch: common random numbers. Two policies, models or
precisions that are compared under the same seeds meet the same noise, and where their distributions are close
they mostly draw the same token: two at a total variation of d draw different ones with a probability of at
most 2d / (1 + d) (Daliri, Musco and Suresh, "Coupling without communication and drafter-invariant speculative
decoding", 2024). The inverse of a cumulative distribution, by which `standard` draws, has no such bound: a
little more weight on an early token moves all that come after it. Studies of speculative decoding and of
watermarks, too, want noise that can be made again: `gumbel_noise` makes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.interfaces.sampler import Sampler, SamplingRows
from quire_plugins.samplers.standard import argmax, choose, float32_temperature, kept_weights, take_rows

if TYPE_CHECKING:
    import torch

    from quire.engine.request import SamplingParams

_SLAB = 2**18
"""Logits worked on at once: their numbers stay in the caches of a CPU."""
_LOW = 0xFFFFFFFF
_LN2 = 0.6931471805599453
_SQRT_HALF_BITS = 0x3F3504F3
"""Of the float32 below the square root of a half."""


@dataclass
class GumbelSamplerConfig:
    """It has no options: everything is a request's own."""


class GumbelSampler(Sampler):
    """The Gumbel-max trick, after top-k, top-p and min-p as `standard` understands them; greedy where asked.

    On a GPU a Triton kernel makes the noise where it is added. It is the same to the last bit, and so are the
    tokens drawn, unless a border of top-p or min-p falls on the rounding of an exponential.
    """

    Config = GumbelSamplerConfig
    reads_history = False

    def __init__(self, *, config: GumbelSamplerConfig) -> None:
        del config

    def sample(self, logits_RV: torch.Tensor, rows: SamplingRows) -> torch.Tensor:
        slab = _SLAB // logits_RV.shape[1]
        return choose(logits_RV, rows, _draw, slab=slab, by_kernel=draw_by_kernel)


def draw_by_kernel(logits_RV: torch.Tensor, rows: SamplingRows) -> torch.Tensor:
    """Token ids, int64 [R], as `GumbelSampler` draws them, greedy rows included. Changes the logits.

    Nothing waits for the GPU.
    """
    import torch

    from quire_plugins.samplers.by_kernel import row_tensors, sampling_kernels

    kernels = sampling_kernels("gumbel")
    of_row = row_tensors(logits_RV, rows)
    tokens_R = torch.empty(len(rows.params), dtype=torch.int64, device=logits_RV.device)
    if any(_filters(params, logits_RV.shape[1]) for params in rows.params):
        names = ("temperatures_R", "top_ks_R", "top_ps_R", "min_ps_R")
        kernels.filter_tokens(logits_RV, **{name: of_row[name] for name in names})
    names = ("temperatures_R", "seeds_R", "positions_R")
    kernels.gumbel_argmax(logits_RV, tokens_R, **{name: of_row[name] for name in names})
    return tokens_R


def gumbel_noise(seeds: Sequence[int], positions: Sequence[int], vocab_size: int) -> torch.Tensor:
    """The noise that is added at each (seed, position) to each token's logit / temperature, float32 [R, V].

    It is -log(-log(u)) of 32 bits: words v % 4 of Philox4x32-10 keyed by the seed, its counter made of the
    position, v // 4 and 1, which keeps it apart from `quire.rng.uniform`.
    """
    import torch

    from quire.rng import philox4x32

    def words(numbers: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        halves_R2 = torch.tensor([[number & _LOW, number >> 32] for number in numbers])
        return halves_R2[:, :1], halves_R2[:, 1:]

    groups_1G = torch.arange(-(-vocab_size // 4))[None]
    bits = philox4x32((*words(positions), groups_1G, torch.ones_like(groups_1G)), words(seeds))
    return to_gumbel(torch.stack(bits, dim=2).flatten(1)[:, :vocab_size])


def _draw(logits_RV: torch.Tensor, rows: SamplingRows) -> torch.Tensor:
    """Token ids [R] of rows whose temperature is above 0. Changes the logits."""
    import torch

    vocab_size = logits_RV.shape[1]
    if filtered := [r for r, params in enumerate(rows.params) if _filters(params, vocab_size)]:
        part_RV = take_rows(logits_RV, filtered)
        weights_RV = kept_weights(part_RV, [rows.params[r] for r in filtered])
        logits_RV[filtered] = part_RV.masked_fill_(weights_RV == 0, -math.inf)
    temperatures = [[float32_temperature(params.temperature)] for params in rows.params]
    scale_R1 = 1.0 / torch.tensor(temperatures, dtype=torch.float32).double()
    noise_RV = gumbel_noise(rows.seeds, rows.positions, vocab_size)
    return argmax(logits_RV.double().mul_(scale_R1).add_(noise_RV))


def _filters(params: SamplingParams, vocab_size: int) -> bool:
    top_k = params.top_k is not None and params.top_k < vocab_size
    return top_k or params.top_p < 1 or params.min_p > 0


def to_gumbel(bits: torch.Tensor) -> torch.Tensor:
    """float32 of 32 bits each (int64), by additions, products and quotients that every device rounds alike.

    Both u and 1 - u are made of the bits, for near 1, where the largest numbers come from, u has lost what
    1 - u still holds.
    """
    import torch

    complement = (bits.to(torch.float32) + 0.5) * 2.0**-32
    exponent, fraction = _split(((bits ^ _LOW).to(torch.float32) + 0.5) * 2.0**-32)
    fraction = torch.where(exponent == 0, -complement, fraction)
    return -_log(*_split(-_log(exponent, fraction)))


def _split(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(e, f) such that x = 2**e * (1 + f), 1 + f between the square roots of a half and of two."""
    import torch

    bits = x.view(torch.int32)
    exponent = (bits - _SQRT_HALF_BITS) >> 23
    return exponent, (bits - (exponent << 23)).view(torch.float32) - 1


def _log(exponent: torch.Tensor, fraction: torch.Tensor) -> torch.Tensor:
    """log(2**e * (1 + f)) = e log 2 + 2 artanh(f / (2 + f)), the series up to the ninth power."""
    import torch

    ratio = fraction / (fraction + 2)
    square = ratio * ratio
    tail = ((square * (1 / 9) + 1 / 7) * square + 1 / 5) * square + 1 / 3
    twice = ratio + ratio
    return exponent.to(torch.float32) * _LN2 + (twice + twice * (square * tail))
