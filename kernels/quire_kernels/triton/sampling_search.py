"""Which tokens of one row may be drawn, found by bisection over the row instead of by sorting it.

A threshold between a lower and an upper bound splits the row; one pass over it says on which side the border
lies, and which values stand nearest to the threshold. The bounds move to those, so that the search ends,
after some 15 passes, at a value that the row has. Nothing is approximate.

Probabilities are integers in units of UNIT ** -1 of the largest: their sums are exact in any order.
"""

import triton
import triton.language as tl

UNIT: tl.constexpr = tl.constexpr(1 << 40)
_LARGEST: tl.constexpr = tl.constexpr(3.4028234663852886e38)


@triton.jit
def load_logits(row, first, vocab, TILE_V: tl.constexpr):
    """(token ids, logits) of a tile; -inf beyond the vocabulary."""
    token_V = first + tl.arange(0, TILE_V)
    logit_V = tl.load(row + token_V, mask=token_V < vocab, other=float("-inf"))
    return token_V, tl.minimum(logit_V, _LARGEST)


@triton.jit
def weigh(logit_V, peak, temperature, least_logit):
    """Integer weights in proportion to probabilities; 0 below `least_logit`."""
    share_V = tl.exp(tl.div_rn(logit_V - peak, temperature))
    return tl.where(logit_V >= least_logit, (share_V * UNIT).to(tl.int64), 0)


@triton.jit
def find_extremes(row, vocab, TILE_V: tl.constexpr):
    """(largest logit, the first token that has it, smallest logit above -inf)."""
    peak_V = tl.full([TILE_V], float("-inf"), tl.float32)
    first_V = tl.zeros([TILE_V], tl.int32)
    low_V = tl.full([TILE_V], _LARGEST, tl.float32)
    for first in range(0, vocab, TILE_V):
        token_V, logit_V = load_logits(row, first, vocab, TILE_V)
        first_V = tl.where(logit_V > peak_V, token_V, first_V)
        peak_V = tl.maximum(peak_V, logit_V)
        low_V = tl.minimum(low_V, tl.where(logit_V == float("-inf"), _LARGEST, logit_V))
    peak = tl.max(peak_V, 0)
    return peak, tl.min(tl.where(peak_V == peak, first_V, vocab - 1), 0), tl.min(low_V, 0)


@triton.jit
def find_kept(row, vocab, low, peak, temperature, top_k, top_p, min_p, TILE_V: tl.constexpr):
    """(least_logit, border, kept): what top-k, top-p and min-p leave, as weights from `least_logit` on.

    It is every token whose weight is more than `border`, and the first `kept` of just that weight.
    """
    least_logit = float("-inf")
    if top_k < vocab:
        least_logit = find_kth_largest(row, vocab, top_k, low, peak, TILE_V)
    border = tl.full([], -1, tl.int64)
    kept = tl.full([], 0, tl.int64)
    if top_p < 1.0:
        border, kept = find_nucleus(row, vocab, peak, temperature, least_logit, top_p, TILE_V)
    least = tl.ceil(min_p * UNIT).to(tl.int64)
    if border < least:  # min-p keeps no token at the border
        border = least - 1
        kept = tl.full([], 0, tl.int64)
    return least_logit, border, kept


@triton.jit
def find_kth_largest(row, vocab, k, low, high, TILE_V: tl.constexpr):
    """The smallest logit that fewer than k exceed, of those from `low` to `high`, which is the largest."""
    while low < high:
        middle = 0.5 * low + 0.5 * high
        middle = tl.where(middle < high, tl.maximum(middle, low), low)
        above_V = tl.zeros([TILE_V], tl.int32)
        below_V = tl.full([TILE_V], float("-inf"), tl.float32)
        beyond_V = tl.full([TILE_V], _LARGEST, tl.float32)
        for first in range(0, vocab, TILE_V):
            _, logit_V = load_logits(row, first, vocab, TILE_V)
            above_V += (logit_V > middle).to(tl.int32)
            below_V = tl.maximum(below_V, tl.where(logit_V > middle, float("-inf"), logit_V))
            beyond_V = tl.minimum(beyond_V, tl.where(logit_V > middle, logit_V, _LARGEST))
        if tl.sum(above_V, 0) < k:
            high = tl.max(below_V, 0)
        else:
            low = tl.min(beyond_V, 0)
    return high


@triton.jit
def find_nucleus(row, vocab, peak, temperature, least_logit, top_p, TILE_V: tl.constexpr):
    """(border, kept): the nucleus is every token of more than `border`, and the first `kept` of just that.

    Its total is the smallest that reaches the share `top_p` (float64) of the row's.
    """
    total_V = tl.zeros([TILE_V], tl.int64)
    for first in range(0, vocab, TILE_V):
        _, logit_V = load_logits(row, first, vocab, TILE_V)
        total_V += weigh(logit_V, peak, temperature, least_logit)
    wanted = tl.sum(total_V, 0).to(tl.float64) * top_p

    # The smallest weight such that those above it do not reach the share; `above` is their sum.
    low = tl.full([], 0, tl.int64)
    high = tl.full([], UNIT, tl.int64)
    above = tl.full([], 0, tl.int64)
    while low < high:
        middle = (low + high) // 2
        if high > 4 * low:  # of another order of magnitude: halve the exponents
            middle = tl.sqrt((low + 1).to(tl.float64) * high.to(tl.float64)).to(tl.int64)
            middle = tl.minimum(tl.maximum(middle, low), high - 1)
        above_V = tl.zeros([TILE_V], tl.int64)
        below_V = tl.zeros([TILE_V], tl.int64)
        beyond_V = tl.full([TILE_V], UNIT, tl.int64)
        for first in range(0, vocab, TILE_V):
            _, logit_V = load_logits(row, first, vocab, TILE_V)
            weight_V = weigh(logit_V, peak, temperature, least_logit)
            above_V += tl.where(weight_V > middle, weight_V, 0)
            below_V = tl.maximum(below_V, tl.where(weight_V > middle, 0, weight_V))
            beyond_V = tl.minimum(beyond_V, tl.where(weight_V > middle, weight_V, UNIT))
        sum_above = tl.sum(above_V, 0)
        if sum_above.to(tl.float64) < wanted:
            high = tl.max(below_V, 0)
            above = sum_above
        else:
            low = tl.min(beyond_V, 0)

    kept = tl.full([], 0, tl.int64)
    most = tl.full([], vocab, tl.int64)
    while kept < most:
        middle = (kept + most) // 2
        if (above + middle * high).to(tl.float64) < wanted:
            kept = middle + 1
        else:
            most = middle
    return high, kept
