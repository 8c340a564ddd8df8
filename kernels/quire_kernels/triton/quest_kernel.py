"""The kernels of page-selected attention: bounds of pages, their scores, attention to those that are chosen.

Suffixes of shapes: M rows of the query tile, the heads of a group; P pages of a tile; N keys of a tile; D
padded head dimension.
"""

import triton
import triton.language as tl

from quire_kernels.triton.attention_tile import (
    LOG2E,
    finish_softmax,
    load_rows,
    soften,
    start_softmax,
    store_rows,
)


@triton.jit(do_not_specialize=["tokens"])
def store_bounds_kernel(
    k,
    least,
    largest,
    slots,
    tokens,
    stride_k_token,
    stride_k_head,
    stride_block,
    stride_kv_head,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE_N: tl.constexpr,
):
    """Grid (tokens, key-value heads). The first of a page's tokens works for those that follow it there, so
    that no two programs write the same bounds:

        slot       30  31  32  33  34  70          pages of 16 slots
        programs    x   -   x   -   -   x          30 widens bounds, 32 begins them
    """
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    slot = tl.load(slots + token)
    if slot < 0:
        return
    offset = (slot % BLOCK_SIZE).to(tl.int32)
    before = tl.load(slots + token - 1, mask=token > 0, other=-1)
    if (offset > 0) & (before == slot - 1):
        return
    dim_D = tl.arange(0, PADDED_DIM)
    inside_D = dim_D < HEAD_DIM
    bound_D = slot // BLOCK_SIZE * stride_block + head * stride_kv_head + dim_D
    least_D = tl.load(least + bound_D, mask=inside_D).to(tl.float32)
    largest_D = tl.load(largest + bound_D, mask=inside_D).to(tl.float32)
    least_D = tl.where(offset > 0, least_D, float("inf"))
    largest_D = tl.where(offset > 0, largest_D, float("-inf"))
    left = BLOCK_SIZE - offset
    for first in range(0, left, TILE_N):
        ahead_N = first + tl.arange(0, TILE_N)
        inside_N = (ahead_N < left) & (token + ahead_N < tokens)
        follows_N = tl.load(slots + token + ahead_N, mask=inside_N, other=-1) == slot + ahead_N
        offset_N = (token + ahead_N) * stride_k_token + head * stride_k_head
        k_ND = load_rows(k, offset_N, follows_N, HEAD_DIM, PADDED_DIM, MASKED=True).to(tl.float32)
        least_D = tl.minimum(least_D, tl.min(tl.where(follows_N[:, None], k_ND, float("inf")), 0))
        largest_D = tl.maximum(largest_D, tl.max(tl.where(follows_N[:, None], k_ND, float("-inf")), 0))
    tl.store(least + bound_D, least_D.to(least.dtype.element_ty), mask=inside_D)
    tl.store(largest + bound_D, largest_D.to(largest.dtype.element_ty), mask=inside_D)


@triton.jit
def _capped(product, scale, softcap):
    """Scores of products of queries and keys. tanh(x) = 1 - 2 / (exp(2x) + 1), right at both infinities."""
    if softcap is None:
        return product * scale
    else:
        return softcap * (1.0 - 2.0 / (tl.exp2(product * (2.0 * LOG2E * scale / softcap)) + 1.0))


@triton.jit(do_not_specialize=["pages"])
def page_scores_kernel(
    q,
    least,
    largest,
    tables,
    seq_lens,
    scores,
    pages,
    scale,
    softcap,
    alibi,
    stride_q_token,
    stride_q_head,
    stride_block,
    stride_kv_head,
    stride_table,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_P: tl.constexpr,
):
    """Grid (tiles of pages, key-value heads, sequences). `softcap` and `alibi` (the slopes) may be None."""
    kv_head = tl.program_id(1)
    sequence = tl.program_id(2).to(tl.int64)
    length = tl.load(seq_lens + sequence)
    page_P = tl.program_id(0) * TILE_P + tl.arange(0, TILE_P)
    used = tl.cdiv(length, BLOCK_SIZE)
    present_P = page_P < tl.minimum(used, pages)
    block_P = tl.load(tables + sequence * stride_table + page_P, mask=present_P, other=0)
    offset_P = block_P.to(tl.int64) * stride_block + kv_head * stride_kv_head
    least_PD = load_rows(least, offset_P, present_P, HEAD_DIM, PADDED_DIM, MASKED=True)
    largest_PD = load_rows(largest, offset_P, present_P, HEAD_DIM, PADDED_DIM, MASKED=True)
    row_M = tl.arange(0, TILE_M)
    head_M = kv_head * GROUP + row_M
    real_M = row_M < GROUP
    q_MD = load_rows(
        q, sequence * stride_q_token + head_M * stride_q_head, real_M, HEAD_DIM, PADDED_DIM, MASKED=True
    )
    # Of the two products of a dimension the larger is that with the largest key where q is positive, and with
    # the least where it is negative.
    above_MD = tl.where(q_MD > 0.0, q_MD, 0.0).to(q_MD.dtype)
    below_MD = tl.where(q_MD < 0.0, q_MD, 0.0).to(q_MD.dtype)
    most_MP = tl.dot(above_MD, tl.trans(largest_PD), input_precision="ieee")
    most_MP = tl.dot(below_MD, tl.trans(least_PD), most_MP, input_precision="ieee")
    if alibi is not None:
        # Whichever way a slope leads, one of the page's two ends has the most of it.
        slope_M = tl.load(alibi + head_M, mask=real_M, other=0.0)
        first_P = (page_P * BLOCK_SIZE - (length - 1)).to(tl.float32)
        last_P = (tl.minimum((page_P + 1) * BLOCK_SIZE, length) - length).to(tl.float32)
        bias_MP = tl.maximum(slope_M[:, None] * first_P[None, :], slope_M[:, None] * last_P[None, :])
        most_MP = _capped(most_MP, scale, softcap) + bias_MP
    score_P = tl.max(tl.where(real_M[:, None], most_MP, float("-inf")), 0)
    score_P = tl.where(page_P == used - 1, float("inf"), score_P)
    score_P = tl.where(present_P, score_P, float("-inf"))
    row = scores + (sequence * tl.num_programs(1) + kv_head) * pages
    tl.store(row + page_P, score_P, mask=page_P < pages)


@triton.jit(do_not_specialize=["chosen"])
def attend_pages_kernel(
    q,
    k_cache,
    v_cache,
    tables,
    seq_lens,
    pages,
    out,
    sinks,
    lse,
    chosen,
    scale,
    softcap,
    alibi,
    stride_q_token,
    stride_q_head,
    stride_block,
    stride_kv_head,
    stride_slot,
    stride_table,
    stride_out_token,
    stride_out_head,
    stride_out_share,
    stride_lse_token,
    stride_lse_head,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_N: tl.constexpr,
):
    """Grid (sequences, key-value heads, shares). `out` is [S, H, shares, D] and `lse`, which may be None,
    [S, H, shares]. With several shares `sinks` must be None, for they count once, in the merge. `softcap` and
    `alibi` (the slopes) may be None. Pages that are chosen and not there count for nothing.
    """
    sequence = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    share = tl.program_id(2)
    length = tl.load(seq_lens + sequence)
    row_M = tl.arange(0, TILE_M)
    head_M = kv_head * GROUP + row_M
    real_M = row_M < GROUP
    q_MD = load_rows(
        q, sequence * stride_q_token + head_M * stride_q_head, real_M, HEAD_DIM, PADDED_DIM, MASKED=True
    )
    peak_M, total_M = start_softmax(sinks, head_M, real_M)
    acc_MD = tl.zeros([TILE_M, PADDED_DIM], dtype=tl.float32)
    if alibi is not None:
        slope_M = tl.load(alibi + head_M, mask=real_M, other=0.0)

    pages += (sequence * tl.num_programs(1) + kv_head) * chosen
    table = tables + sequence * stride_table
    keys = k_cache + kv_head * stride_kv_head
    values = v_cache + kv_head * stride_kv_head
    # Places count the tokens of the chosen pages, in the order in which they were chosen.
    places = chosen * BLOCK_SIZE
    tiles_per_share = tl.cdiv(tl.cdiv(places, TILE_N), tl.num_programs(2))
    start = share * tiles_per_share * TILE_N
    stop = tl.minimum(start + tiles_per_share * TILE_N, places)
    for first in range(start, stop, TILE_N):
        place_N = first + tl.arange(0, TILE_N)
        page_N = tl.load(pages + place_N // BLOCK_SIZE, mask=place_N < stop, other=0).to(tl.int32)
        key_N = page_N * BLOCK_SIZE + place_N % BLOCK_SIZE
        present_N = (place_N < stop) & (key_N < length)  # the slots beyond may hold NaN, and 0 * NaN is NaN
        block_N = tl.load(table + page_N, mask=present_N, other=0)
        offset_N = block_N.to(tl.int64) * stride_block + (place_N % BLOCK_SIZE) * stride_slot
        k_ND = load_rows(keys, offset_N, present_N, HEAD_DIM, PADDED_DIM, MASKED=True)
        score_MN = _capped(tl.dot(q_MD, tl.trans(k_ND), input_precision="ieee"), scale, softcap)
        if alibi is not None:
            score_MN += slope_M[:, None] * (key_N - (length - 1)).to(tl.float32)[None, :]
        score_MN = tl.where(present_N[None, :], score_MN * LOG2E, float("-inf"))
        weight_MN, decay_M, peak_M, total_M = soften(score_MN, peak_M, total_M)
        v_ND = load_rows(values, offset_N, present_N, HEAD_DIM, PADDED_DIM, MASKED=True)
        acc_MD = tl.dot(weight_MN.to(v_ND.dtype), v_ND, acc_MD * decay_M[:, None], input_precision="ieee")

    out_MD, lse_M = finish_softmax(acc_MD, peak_M, total_M)
    offset_M = sequence * stride_out_token + head_M * stride_out_head + share * stride_out_share
    store_rows(out, offset_M, real_M, out_MD, HEAD_DIM, PADDED_DIM)
    if lse is not None:
        offset_M = sequence * stride_lse_token + head_M * stride_lse_head + share
        tl.store(lse + offset_M, lse_M, mask=real_M)
