"""One tile of queries against the tiles of its keys: what the attention kernels are made of.

Online softmax (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al.,
"FlashAttention", 2022) over a paged cache (Kwon et al., "PagedAttention", 2023), in powers of two.

The heads of a group share their keys, so a query tile packs them. Its rows, for GROUP = 3 and TILE_M = 8:

    row    0   1   2   3   4   5   6   7
    token  0   0   0   1   1   1   -   -      token = row // GROUP, head = row % GROUP; a token whose heads
    head   0   1   2   0   1   2   -   -      don't all fit belongs to the next tile

Keys come in tiles of TILE_N tokens, whatever the block size: each key finds its own block. Of the cache only
the keys low <= key < high are read, others count as zero: an unused slot may hold NaN, and 0 * NaN is NaN.

Suffixes of shapes: M rows of the query tile, N keys of a key tile, D padded head dimension, R either rows.
"""

import triton
import triton.language as tl

from quire_kernels.triton.codes import decode, load_scales

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)
LN2: tl.constexpr = tl.constexpr(0.6931471805599453)


@triton.jit
def load_rows(
    base, offset_R, present_R, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr, MASKED: tl.constexpr
):
    """The rows [R, D] at base + offset; zero beyond HEAD_DIM and, if MASKED, in rows that are not present."""
    dim_D = tl.arange(0, PADDED_DIM)
    address_RD = base + offset_R[:, None] + dim_D[None, :]
    if MASKED:
        if HEAD_DIM == PADDED_DIM:
            return tl.load(address_RD, mask=present_R[:, None], other=0.0)
        else:
            return tl.load(address_RD, mask=present_R[:, None] & (dim_D < HEAD_DIM)[None, :], other=0.0)
    elif HEAD_DIM == PADDED_DIM:
        return tl.load(address_RD)
    else:
        return tl.load(address_RD, mask=(dim_D < HEAD_DIM)[None, :], other=0.0)


@triton.jit
def finite_or_zero(peak):
    """What to subtract before exponentiating: a row that has seen no key yet has a peak of -inf."""
    return tl.where(peak == float("-inf"), 0.0, peak)


@triton.jit
def place_rows(
    kv_head, query_start, first_query, last_query, context, GROUP: tl.constexpr, TILE_M: tl.constexpr
):
    """Of every row: its token in the step, its head, its position, and whether it is there at all."""
    row_M = tl.arange(0, TILE_M)
    query_M = first_query + row_M // GROUP
    real_M = query_M <= last_query
    # A row that is not there sits before the first key and sees none.
    position_M = tl.where(real_M, context + query_M, -1)
    return (query_start + query_M).to(tl.int64), kv_head * GROUP + row_M % GROUP, position_M, real_M


@triton.jit
def start_softmax(sinks, head_M, real_M):
    """(peak score, sum of weights) before the first key: nothing, or the sink of each row's head."""
    if sinks is None:
        return tl.full(head_M.shape, float("-inf"), tl.float32), tl.full(head_M.shape, 0.0, tl.float32)
    else:
        sink_M = tl.load(sinks + head_M, mask=real_M, other=0.0)
        return sink_M * LOG2E, tl.where(sink_M == float("-inf"), 0.0, 1.0)


@triton.jit
def soften(score_MN, peak_M, total_M):
    """(weights of these keys, by what to multiply earlier sums, peak score, sum of weights) after a tile."""
    new_peak_M = tl.maximum(peak_M, tl.max(score_MN, 1))
    shift_M = finite_or_zero(new_peak_M)
    weight_MN = tl.exp2(score_MN - shift_M[:, None])
    decay_M = tl.exp2(peak_M - shift_M)
    return weight_MN, decay_M, new_peak_M, total_M * decay_M + tl.sum(weight_MN, 1)


@triton.jit
def finish_softmax(acc_MD, peak_M, total_M):
    """(output, natural log of the sum of exponents); 0 and -inf for a row that saw nothing."""
    total_M = tl.where(total_M == 0.0, 1.0, total_M)
    return acc_MD / total_M[:, None], (peak_M + tl.log2(total_M)) * LN2


@triton.jit
def store_rows(base, offset_R, present_R, rows_RD, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr):
    """Writes the first HEAD_DIM columns of the rows that are present, rounded to the type of `base`."""
    dim_D = tl.arange(0, PADDED_DIM)
    tl.store(
        base + offset_R[:, None] + dim_D[None, :],
        rows_RD.to(base.dtype.element_ty),
        mask=present_R[:, None] & (dim_D < HEAD_DIM)[None, :],
    )


@triton.jit
def attend(
    acc_MD,
    peak_M,
    total_M,
    q_MD,
    position_M,
    start,
    stop,
    low,
    high,
    keys,
    values,
    k_scales,
    v_scales,
    table,
    stride_block,
    stride_slot,
    scale,
    window,
    softcap,
    alibi,
    head_M,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE_N: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Adds the key tiles that begin in start:stop to (sum of weights * values, peak score, sum of weights).

    `start` is a multiple of TILE_N. Without MASKED, every row must see every key of these tiles. Of a cache
    in 8 bits the scale of a key multiplies its column of scores, that of a value its column of weights.
    Scales are passed whole: the grid's second axis says which head's are meant. `alibi` has the slope of each
    head.
    """
    if alibi is not None:
        slope_M = tl.load(alibi + head_M, mask=position_M >= 0, other=0.0) * LOG2E
    for first in range(start, stop, TILE_N):
        key_N = first + tl.arange(0, TILE_N)
        present_N = (key_N >= low) & (key_N < high)
        if MASKED:
            block_N = tl.load(table + key_N // BLOCK_SIZE, mask=present_N, other=0)
        else:
            block_N = tl.load(table + key_N // BLOCK_SIZE)
        offset_N = block_N.to(tl.int64) * stride_block + (key_N % BLOCK_SIZE) * stride_slot

        k_ND = load_rows(keys, offset_N, present_N, HEAD_DIM, PADDED_DIM, MASKED)
        if k_scales is None:
            score_MN = tl.dot(q_MD, tl.trans(k_ND), input_precision="ieee")
        else:
            scales_N = (block_N.to(tl.int64) * tl.num_programs(1) + tl.program_id(1)) * BLOCK_SIZE
            scales_N += key_N % BLOCK_SIZE
            k_scale_N = load_scales(k_scales, scales_N, present_N, k_ND.dtype, MASKED)
            score_MN = tl.dot(q_MD, tl.trans(decode(k_ND, q_MD.dtype)), input_precision="ieee")
            score_MN *= k_scale_N[None, :]
        if softcap is None:
            score_MN *= scale * LOG2E
        else:
            # tanh(x) = 1 - 2 / (exp(2x) + 1), which is right at both infinities.
            power_MN = tl.exp2(score_MN * (2.0 * LOG2E * scale / softcap))
            score_MN = (softcap * LOG2E) * (1.0 - 2.0 / (power_MN + 1.0))
        if alibi is not None:
            # Distances are whole numbers, exact in float32; only N + M of them are converted.
            ahead_M = (first - position_M).to(tl.float32)
            score_MN += slope_M[:, None] * (ahead_M[:, None] + tl.arange(0, TILE_N).to(tl.float32)[None, :])
        if MASKED:
            visible_MN = key_N[None, :] <= position_M[:, None]
            if window is not None:
                visible_MN &= key_N[None, :] > position_M[:, None] - window
            score_MN = tl.where(visible_MN, score_MN, float("-inf"))

        weight_MN, decay_M, peak_M, total_M = soften(score_MN, peak_M, total_M)
        v_ND = load_rows(values, offset_N, present_N, HEAD_DIM, PADDED_DIM, MASKED)
        if v_scales is not None:
            v_scale_N = load_scales(v_scales, scales_N, present_N, v_ND.dtype, MASKED)
            if q_MD.dtype == tl.float16:  # a weight times a small scale would be below its least number
                v_ND = (decode(v_ND, tl.float32) * v_scale_N[:, None]).to(tl.float16)
            else:
                v_ND = decode(v_ND, q_MD.dtype)
                weight_MN *= v_scale_N[None, :]
        acc_MD = tl.dot(weight_MN.to(v_ND.dtype), v_ND, acc_MD * decay_M[:, None], input_precision="ieee")
    return acc_MD, peak_M, total_M
