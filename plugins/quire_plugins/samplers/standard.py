"""Greedy choice, or a draw after temperature, top-k (Fan et al., 2018), top-p (Holtzman et al., "The curious
case of neural text degeneration", ICLR 2020) and min-p (Nguyen et al., 2024), applied in that order.

The draw inverts the cumulative distribution at one uniform number per (seed, position). Probabilities are
held as integers, in units of 2**-40 of the row's largest: their sums are exact, whatever the order in which
a device adds them, so a row's token depends neither on the rows beside it nor on the number of threads. What
is below 2**-40 of the most probable token is never drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.interfaces.sampler import Sampler, SamplingRows

if TYPE_CHECKING:
    import torch

    from quire.engine.request import SamplingParams

    Draw = Callable[[torch.Tensor, SamplingRows], torch.Tensor]

_UNIT_BITS = 40
_LEADING_BITS = 6
"""Bits of a weight, besides its order of magnitude, that tell in which bucket of a histogram it falls."""
_BUCKETS = (_UNIT_BITS << _LEADING_BITS) + 2
_TINY, _MOST = 2.0**-126, (2 - 2.0**-23) * 2.0**127
"""The least and the largest normal float32."""
_SLAB = 2**20
"""Logits worked on at once: what stays in the caches of a CPU."""


@dataclass
class StandardSamplerConfig:
    """It has no options: everything is a request's own."""


class StandardSampler(Sampler):
    """Greedy, temperature, top-k, top-p and min-p; each row as its request asks.

    On a GPU one Triton kernel does it all; the same integers decide, so the same tokens are drawn, unless a
    draw falls on the rounding of an exponential.
    """

    Config = StandardSamplerConfig
    reads_history = False

    def __init__(self, *, config: StandardSamplerConfig) -> None:
        del config

    def sample(self, logits_RV: torch.Tensor, rows: SamplingRows) -> torch.Tensor:
        from quire_plugins.samplers.by_kernel import sample_by_kernel

        slab = _SLAB // max(logits_RV.shape[1], _BUCKETS)
        return choose(logits_RV, rows, _draw_rows, slab=slab, by_kernel=sample_by_kernel)


def choose(
    logits_RV: torch.Tensor, rows: SamplingRows, draw: Draw, *, slab: int, by_kernel: Draw
) -> torch.Tensor:
    """Token ids, int64 [R]: of greedy rows the largest logit, of the others what `draw` makes of a copy of
    their logits, `slab` of them at a time (at least one). On a GPU `by_kernel` does it all.
    """
    import torch

    drawn = [r for r, params in enumerate(rows.params) if params.temperature > 0]
    if not drawn:
        return argmax(logits_RV)
    if logits_RV.is_cuda:
        return by_kernel(logits_RV, rows)
    tokens_R = torch.empty(len(rows.params), dtype=torch.int64)
    if greedy := [r for r, params in enumerate(rows.params) if params.temperature == 0]:
        tokens_R[greedy] = argmax(take_rows(logits_RV, greedy))
    slab = max(1, slab)
    for first in range(0, len(drawn), slab):
        part = drawn[first : first + slab]
        tokens_R[part] = draw(take_rows(logits_RV, part), rows.select(part))
    return tokens_R


def _draw_rows(logits_RV: torch.Tensor, rows: SamplingRows) -> torch.Tensor:
    """Token ids [R] of rows whose temperature is above 0."""
    import numpy as np
    import torch

    from quire.rng import uniform

    uniforms_R = uniform(np.array(rows.seeds, dtype=np.uint64), np.array(rows.positions, dtype=np.uint64))
    return draw(kept_weights(logits_RV, rows.params), torch.from_numpy(uniforms_R))


def argmax(logits_RV: torch.Tensor) -> torch.Tensor:
    """The first of each row's largest logits; on a CPU numpy finds it ten times as fast as torch."""
    import torch

    if logits_RV.device.type == "cpu":
        return torch.from_numpy(logits_RV.numpy().argmax(axis=-1))
    return logits_RV.argmax(dim=-1)


def take_rows(x_RV: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """A copy of these rows; several times as fast as indexing with a list."""
    import torch

    return x_RV.index_select(0, torch.tensor(rows, device=x_RV.device))


def draw(weights_RV: torch.Tensor, uniforms_R: torch.Tensor) -> torch.Tensor:
    """Token ids [R]: the first whose cumulative weight exceeds that row's uniform share of the total."""
    import torch

    cumulative_RV = weights_RV.cumsum(dim=-1)
    targets_R1 = (uniforms_R[:, None] * cumulative_RV[:, -1:]).to(torch.int64)
    tokens_R1 = torch.searchsorted(cumulative_RV, targets_R1, right=True)
    # Only a row without a distribution (not a number, or nothing allowed) can point past the end.
    return tokens_R1[:, 0].clamp_(max=weights_RV.shape[1] - 1)


def kept_weights(logits_RV: torch.Tensor, params: Sequence[SamplingParams]) -> torch.Tensor:
    """Integer weights [R, V], in proportion to the probabilities of tokens that may be drawn, 0 for others.

    `logits_RV` is float32, V below 2**23 (sums fit 64 bits), and all temperatures are above 0.
    """
    import torch

    device, vocab_size = logits_RV.device, logits_RV.shape[1]
    temperatures = [[float32_temperature(p.temperature)] for p in params]
    scaled_RV = logits_RV - logits_RV.amax(dim=-1, keepdim=True)
    scaled_RV.div_(torch.tensor(temperatures, device=device))
    weights_RV = scaled_RV.exp_().mul_(2.0**_UNIT_BITS).to(torch.int64)

    if k := {r: p.top_k for r, p in enumerate(params) if p.top_k is not None and p.top_k < vocab_size}:
        rows, values = torch.tensor([*k], device=device), torch.tensor([*k.values()], device=device)
        kept_RV = _top_k(logits_RV.index_select(0, rows), values)
        weights_RV.index_copy_(0, rows, weights_RV.index_select(0, rows).mul_(kept_RV))
    if top_p := {r: p.top_p for r, p in enumerate(params) if p.top_p < 1}:
        rows = torch.tensor([*top_p], device=device)
        values = torch.tensor([*top_p.values()], dtype=torch.float64, device=device)
        weights_RV.index_copy_(0, rows, _top_p(weights_RV.index_select(0, rows), values))
    if min_p := {r: p.min_p for r, p in enumerate(params) if p.min_p > 0}:
        rows = torch.tensor([*min_p], device=device)
        least = torch.tensor([[math.ceil(value * 2**_UNIT_BITS)] for value in min_p.values()], device=device)
        part_RV = weights_RV.index_select(0, rows)
        weights_RV.index_copy_(0, rows, part_RV.mul_(part_RV >= least))
    return weights_RV


def float32_temperature(temperature: float) -> float:
    """What float32 holds of a temperature above 0: neither 0 nor infinite."""
    return min(max(temperature, _TINY), _MOST)


def _top_k(logits_RV: torch.Tensor, k_R: torch.Tensor) -> torch.Tensor:
    """Which tokens have the k-th largest logit or a larger one: more than k, where several have that."""
    largest_RK = logits_RV.topk(int(k_R.max()), dim=-1).values
    return logits_RV >= largest_RK.gather(1, k_R[:, None] - 1)


def _top_p(weights_RV: torch.Tensor, top_p_R: torch.Tensor) -> torch.Tensor:
    """Sets to 0 all but the smallest set of the largest weights whose share reaches top_p.

    Of equal weights at the border it keeps the first. Nothing is sorted but the tokens around the border:
    those in the bucket of a histogram in which the sum of weights, from the largest down, reaches the share.
    """
    import torch

    wanted_R1 = weights_RV.sum(dim=-1, keepdim=True) * top_p_R[:, None]
    # A float32's exponent (biased by 127) and the leading of its 23 further bits; the largest comes first.
    keys_RV = weights_RV.to(torch.float32).view(torch.int32) >> (23 - _LEADING_BITS)
    buckets_RV = ((127 + _UNIT_BITS << _LEADING_BITS) - keys_RV).clamp_(0, _BUCKETS - 1).to(torch.int64)
    mass_RB = weights_RV.new_zeros(len(weights_RV), _BUCKETS).scatter_add_(1, buckets_RV, weights_RV)
    reached_RB = mass_RB.cumsum(dim=-1)
    border_R1 = (reached_RB < wanted_R1).sum(dim=-1, keepdim=True).clamp_(max=_BUCKETS - 1)
    above_R1 = (reached_RB - mass_RB).gather(1, border_R1)

    inside_RV = buckets_RV == border_R1
    most = max(1, int(inside_RV.sum(dim=-1).max()))  # none only in rows without a distribution
    sorted_RN = (weights_RV * inside_RV).topk(most, dim=-1).values
    ahead_RN = above_R1 + sorted_RN.cumsum(dim=-1) - sorted_RN
    kept_R1 = (ahead_RN < wanted_R1).sum(dim=-1, keepdim=True).clamp_(min=1)
    smallest_R1 = sorted_RN.gather(1, kept_R1 - 1)
    kept_equal_R1 = kept_R1 - (sorted_RN > smallest_R1).sum(dim=-1, keepdim=True)

    equal_RV = weights_RV == smallest_R1
    weights_RV.mul_(weights_RV >= smallest_R1)
    rows = (equal_RV.sum(dim=-1) > kept_equal_R1[:, 0]).nonzero()[:, 0]
    if len(rows):
        equal_RV = equal_RV[rows]
        kept_RV = ~equal_RV | (equal_RV.cumsum(dim=-1) <= kept_equal_R1[rows])
        weights_RV.index_copy_(0, rows, weights_RV[rows].mul_(kept_RV))
    return weights_RV
