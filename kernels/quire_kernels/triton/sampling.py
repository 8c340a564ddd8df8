"""Draws the next token of each row of logits: temperature, top-k (Fan et al., 2018), top-p (Holtzman et al.,
"The curious case of neural text degeneration", ICLR 2020) and min-p (Nguyen et al., 2024), without a sort.

One program a row. Its number is Philox's (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC
2011) for the row's seed and position, and inverts the cumulative distribution: a draw depends on nothing but
the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire_kernels.triton.checks import check_sampling
from quire_kernels.triton.launch import Architecture, Launch
from quire_kernels.triton.sampling_search import (
    find_extremes,
    find_kept,
    load_logits,
    weigh,
)
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor


def sample_tokens(
    logits_RV: Tensor,
    tokens_R: Tensor,
    *,
    temperatures_R: Tensor,
    top_ks_R: Tensor,
    top_ps_R: Tensor,
    min_ps_R: Tensor,
    seeds_R: Tensor,
    positions_R: Tensor,
) -> None:
    """Writes a token id a row; see `quire_kernels`."""
    import torch

    parameters = {
        "tokens_R": (tokens_R, torch.int64),
        "temperatures_R": (temperatures_R, torch.float32),
        "top_ks_R": (top_ks_R, torch.int32),
        "top_ps_R": (top_ps_R, torch.float64),
        "min_ps_R": (min_ps_R, torch.float64),
        "seeds_R": (seeds_R, torch.int64),
        "positions_R": (positions_R, torch.int64),
    }
    check_sampling(logits_RV, parameters)
    rows, vocab = logits_RV.shape
    if rows == 0:
        return
    sample_tokens_kernel[(rows,)](
        logits_RV,
        *(tensor for tensor, _ in parameters.values()),
        vocab,
        logits_RV.stride(0),
        **launch_sample_tokens().keywords(),
    )


def launch_sample_tokens() -> Launch:
    """TILE_V logits at a time, eight a thread: for a toy's vocabulary that is much, and costs nothing."""
    return Launch(constants={"TILE_V": 4096}, num_warps=16)


@triton.jit
def sample_tokens_kernel(
    logits,
    tokens,
    temperatures,
    top_ks,
    top_ps,
    min_ps,
    seeds,
    positions,
    vocab,
    stride_logits,
    TILE_V: tl.constexpr,
):
    """Grid (rows)."""
    r = tl.program_id(0)
    row = logits + r.to(tl.int64) * stride_logits
    peak, greedy, low = find_extremes(row, vocab, TILE_V)
    temperature = tl.load(temperatures + r)
    if temperature == 0.0:
        tl.store(tokens + r, greedy.to(tl.int64))
        return

    top_k = tl.load(top_ks + r)
    top_p = tl.load(top_ps + r)
    min_p = tl.load(min_ps + r)
    least_logit, border, border_kept = find_kept(
        row, vocab, low, peak, temperature, top_k, top_p, min_p, TILE_V
    )

    total_V = tl.zeros([TILE_V], tl.int64)
    for first in range(0, vocab, TILE_V):
        _, logit_V = load_logits(row, first, vocab, TILE_V)
        weight_V = weigh(logit_V, peak, temperature, least_logit)
        total_V += tl.where(weight_V > border, weight_V, 0)
    total = tl.sum(total_V, 0) + border_kept * border
    target = (_uniform(tl.load(seeds + r), tl.load(positions + r)) * total.to(tl.float64)).to(tl.int64)

    # The tile in which the cumulative weight exceeds the target, then the token in it.
    first = 0
    before = tl.full([], 0, tl.int64)  # the weight of all tiles before this one
    border_left = border_kept
    inside = tl.full([], 0, tl.int64)
    at_border = tl.full([], 0, tl.int64)
    searching = True
    while searching:
        _, logit_V = load_logits(row, first, vocab, TILE_V)
        weight_V = weigh(logit_V, peak, temperature, least_logit)
        at_border = tl.minimum(tl.sum((weight_V == border).to(tl.int64), 0), border_left)
        inside = tl.sum(tl.where(weight_V > border, weight_V, 0), 0) + at_border * border
        searching = (before + inside <= target) & (first + TILE_V < vocab)
        if searching:
            before += inside
            border_left -= at_border
            first += TILE_V
    _, logit_V = load_logits(row, first, vocab, TILE_V)
    weight_V = weigh(logit_V, peak, temperature, least_logit)
    rank_V = tl.cumsum((weight_V == border).to(tl.int32), 0)
    kept_V = (weight_V > border) | ((weight_V == border) & (rank_V <= border_left))
    cumulative_V = before + tl.cumsum(tl.where(kept_V, weight_V, 0), 0)
    token = first + tl.sum((cumulative_V <= target).to(tl.int32), 0)
    tl.store(tokens + r, tl.minimum(token, vocab - 1).to(tl.int64))


@triton.jit
def _uniform(seed, position):
    """53 random bits as a float64 in [0, 1): Philox4x32-10, the seed as key, the position as counter."""
    low = position.to(tl.uint32)
    high = (position >> 32).to(tl.uint32)
    zero = low ^ low
    a, b, _, _ = tl.philox(seed, low, high, zero, zero)
    return ((a.to(tl.int64) << 21) | (b >> 11).to(tl.int64)).to(tl.float64) * (1.0 / (1 << 53))


def variants(architecture: Architecture) -> Iterator[Variant]:
    """One for all vocabularies and architectures."""
    del architecture
    yield Variant(
        name="sample",
        kernel=sample_tokens_kernel,
        types={
            "logits": "*fp32",
            "tokens": "*i64",
            "temperatures": "*fp32",
            "top_ks": "*i32",
            **dict.fromkeys(("top_ps", "min_ps"), "*fp64"),
            **dict.fromkeys(("seeds", "positions"), "*i64"),
            "vocab": "i32",
        },
        launch=launch_sample_tokens(),
        unaligned=frozenset({"stride_logits"}),
    )
