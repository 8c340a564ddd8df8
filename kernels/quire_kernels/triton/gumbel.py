"""Draws by the Gumbel-max trick (Gumbel, "Statistical theory of extreme values and some practical
applications", 1954; Maddison, Tarlow and Minka, "A* sampling", NeurIPS 2014): the largest of logits /
temperature + noise.

One pass over a row, whose noise is made where it is added and never stored. Where rows are few their
vocabularies are shared out to several programs, and a second kernel takes the best of their best.

The noise is a float32 that comes out the same on every device: it is made of integers and of additions,
products and quotients that are rounded one by one. So the compiler must not fuse them, and logarithms are
series. Scores are float64, in which no temperature above 0 makes a logit infinite.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire_kernels.triton import launch
from quire_kernels.triton.checks import check_sampling
from quire_kernels.triton.launch import Architecture, Launch
from quire_kernels.triton.sampling_filter import filter_variants
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor

_TILE_V = 1024
_MAX_PARTS = 256
_PROGRAMS_PER_PROCESSOR = 8

_LN2: tl.constexpr = tl.constexpr(0.6931471805599453)
_UNIT32: tl.constexpr = tl.constexpr(2.0**-32)
_SQRT_HALF_BITS: tl.constexpr = tl.constexpr(0x3F3504F3)


def gumbel_argmax(
    logits_RV: Tensor, tokens_R: Tensor, *, temperatures_R: Tensor, seeds_R: Tensor, positions_R: Tensor
) -> None:
    """Writes a token id a row; see `quire_kernels`."""
    import torch

    parameters = {
        "temperatures_R": (temperatures_R, torch.float32),
        "seeds_R": (seeds_R, torch.int64),
        "positions_R": (positions_R, torch.int64),
    }
    check_sampling(logits_RV, {"tokens_R": (tokens_R, torch.int64), **parameters})
    rows, vocab = logits_RV.shape
    if rows == 0:
        return
    parts = vocabulary_parts(launch.architecture_of(logits_RV.device), rows=rows, vocab=vocab)
    scores_RP, best_RP = None, tokens_R
    if parts > 1:
        scores_RP = torch.empty(rows, parts, dtype=torch.float64, device=logits_RV.device)
        best_RP = torch.empty(rows, parts, dtype=torch.int64, device=logits_RV.device)
    gumbel_argmax_kernel[(rows, parts)](
        logits_RV,
        *(tensor for tensor, _ in parameters.values()),
        best_RP,
        scores_RP,
        vocab,
        logits_RV.stride(0),
        **launch_gumbel_argmax().keywords(),
    )
    if scores_RP is not None:
        gumbel_merge_kernel[(rows,)](scores_RP, best_RP, tokens_R, parts, **launch_gumbel_merge().keywords())


def vocabulary_parts(architecture: Architecture, *, rows: int, vocab: int) -> int:
    """How many programs share a row: to fill the GPU, each with a tile at least."""
    to_fill = _PROGRAMS_PER_PROCESSOR * architecture.processors // rows
    return max(1, min(to_fill, triton.cdiv(vocab, _TILE_V), _MAX_PARTS))


def launch_gumbel_argmax() -> Launch:
    """TILE_V logits at a time, eight a thread: two numbers of Philox."""
    return Launch(constants={"TILE_V": _TILE_V}, num_warps=4, fp_fusion=False)


def launch_gumbel_merge() -> Launch:
    """TILE_P parts, which is all that there are."""
    return Launch(constants={"TILE_P": _MAX_PARTS}, num_warps=2)


@triton.jit
def gumbel_argmax_kernel(
    logits,
    temperatures,
    seeds,
    positions,
    tokens,
    scores,
    vocab,
    stride_logits,
    TILE_V: tl.constexpr,
):
    """Grid (rows, parts of the vocabulary). `tokens` is [R, parts], as is `scores`; None with one part."""
    r = tl.program_id(0)
    part = tl.program_id(1)
    row = logits + r.to(tl.int64) * stride_logits
    temperature = tl.load(temperatures + r)
    drawn = temperature > 0.0
    inverse = 1.0 / tl.where(drawn, temperature, 1.0).to(tl.float64)
    seed = tl.load(seeds + r)
    position = tl.load(positions + r)

    best_GW = tl.full([TILE_V // 4, 4], float("-inf"), tl.float64)
    first_GW = tl.zeros([TILE_V // 4, 4], tl.int32)
    tiles = tl.cdiv(tl.cdiv(vocab, TILE_V), tl.num_programs(1))
    start = part * tiles * TILE_V
    for first in range(start, tl.minimum(start + tiles * TILE_V, vocab), TILE_V):
        group_G = first // 4 + tl.arange(0, TILE_V // 4)
        token_GW = 4 * group_G[:, None] + tl.arange(0, 4)[None, :]
        logit_GW = tl.load(row + token_GW, mask=token_GW < vocab, other=float("-inf"))
        score_GW = logit_GW.to(tl.float64) * inverse
        if drawn:
            score_GW += _noise(seed, position, group_G, TILE_V // 4).to(tl.float64)
        first_GW = tl.where(score_GW > best_GW, token_GW, first_GW)
        best_GW = tl.maximum(best_GW, score_GW)

    best = tl.max(tl.max(best_GW, 1), 0)
    token = tl.min(tl.min(tl.where(best_GW == best, first_GW, vocab - 1), 1), 0)
    place = r.to(tl.int64) * tl.num_programs(1) + part
    tl.store(tokens + place, token.to(tl.int64))
    if scores is not None:
        tl.store(scores + place, best)


@triton.jit(do_not_specialize=["parts"])
def gumbel_merge_kernel(scores, candidates, tokens, parts, TILE_P: tl.constexpr):
    """Grid (rows): of the [R, parts] candidates the one with the best score, the first of equal ones."""
    r = tl.program_id(0)
    part_P = tl.arange(0, TILE_P)
    place_P = r.to(tl.int64) * parts + part_P
    score_P = tl.load(scores + place_P, mask=part_P < parts, other=float("-inf"))
    token_P = tl.load(candidates + place_P, mask=part_P < parts, other=0x7FFFFFFF)
    token = tl.min(tl.where(score_P == tl.max(score_P, 0), token_P, 0x7FFFFFFF), 0)
    tl.store(tokens + r, token)


@triton.jit
def _noise(seed, position, group_G, GROUPS: tl.constexpr):
    """Standard Gumbel numbers, float32 [G, 4], of the tokens 4 * group to 4 * group + 3.

    They are -log(-log(u)) of 32 random bits. Both 1 - u and u are made of the bits, for near 1, where the
    largest numbers come from, u has lost what 1 - u still holds.
    """
    zero_G = (group_G * 0).to(tl.uint32)
    low_G = zero_G + position.to(tl.uint32)
    high_G = zero_G + (position >> 32).to(tl.uint32)
    a_G, b_G, c_G, d_G = tl.philox(seed, low_G, high_G, group_G.to(tl.uint32), zero_G + 1)
    word_GW = tl.reshape(tl.join(tl.join(a_G, c_G), tl.join(b_G, d_G)), [GROUPS, 4])

    exponent_GW, fraction_GW = _split(((word_GW ^ 0xFFFFFFFF).to(tl.float32) + 0.5) * _UNIT32)
    complement_GW = (word_GW.to(tl.float32) + 0.5) * _UNIT32
    fraction_GW = tl.where(exponent_GW == 0, -complement_GW, fraction_GW)
    exponent_GW, fraction_GW = _split(-_log(exponent_GW, fraction_GW))
    return -_log(exponent_GW, fraction_GW)


@triton.jit
def _split(x):
    """(e, f) such that x = 2 ** e * (1 + f), 1 + f between the square roots of a half and of two."""
    bits = x.to(tl.int32, bitcast=True)
    exponent = (bits - _SQRT_HALF_BITS) >> 23
    return exponent, (bits - (exponent << 23)).to(tl.float32, bitcast=True) - 1.0


@triton.jit
def _log(exponent, fraction):
    """log(2 ** e * (1 + f)) = e log 2 + 2 artanh(f / (2 + f)), the series up to the ninth power."""
    ratio = tl.div_rn(fraction, fraction + 2.0)
    square = ratio * ratio
    tail = ((square * (1 / 9) + (1 / 7)) * square + (1 / 5)) * square + (1 / 3)
    twice = ratio + ratio
    return exponent.to(tl.float32) * _LN2 + (twice + twice * (square * tail))


def variants(architecture: Architecture) -> Iterator[Variant]:
    """One for all vocabularies and architectures; what keeps the filters of such draws, too."""
    del architecture
    for name, scores in (("gumbel-argmax", None), ("gumbel-argmax-parts", "*fp64")):
        yield Variant(
            name=name,
            kernel=gumbel_argmax_kernel,
            types={
                **dict.fromkeys(("logits", "temperatures"), "*fp32"),
                **dict.fromkeys(("seeds", "positions", "tokens"), "*i64"),
                "scores": scores,
                "vocab": "i32",
            },
            launch=launch_gumbel_argmax(),
            unaligned=frozenset({"stride_logits"}),
        )
    yield Variant(
        name="gumbel-merge",
        kernel=gumbel_merge_kernel,
        types={"scores": "*fp64", **dict.fromkeys(("candidates", "tokens"), "*i64"), "parts": "i32"},
        launch=launch_gumbel_merge(),
    )
    yield from filter_variants()
