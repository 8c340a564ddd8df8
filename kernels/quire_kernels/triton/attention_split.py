"""Split attention: a decoding sequence's keys shared out to several programs, whose results are then merged.

With few sequences and long contexts one program a sequence leaves most of the GPU idle. Each share is an
attention of its own, with output and log-sum-exp (Dao et al., "Flash-Decoding for long-context inference",
2023), and `merge` makes one of them. With a single share the kernel writes the result itself.
"""

import triton
import triton.language as tl

from quire_kernels.triton.attention_tile import (
    attend,
    finish_softmax,
    load_rows,
    place_rows,
    start_softmax,
    store_rows,
)


@triton.jit(do_not_specialize=["window"])
def attention_split_kernel(
    q,
    k_cache,
    v_cache,
    tables,
    query_starts,
    seq_lens,
    out,
    sinks,
    lse,
    k_scales,
    v_scales,
    scale,
    window,
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
    stride_out_split,
    stride_lse_token,
    stride_lse_head,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_N: tl.constexpr,
):
    """Grid (sequences, key-value heads, shares). All rows of a sequence fit one query tile.

    `out` is [T, H, shares, D]; `lse`, which may be None, is [T, H, shares]. With several shares `sinks` must
    be None, for they count once, in the merge. The scales, `window`, `softcap` and `alibi` (the slopes) may
    be None.
    """
    sequence = tl.program_id(0)
    kv_head = tl.program_id(1)
    share = tl.program_id(2)
    query_start = tl.load(query_starts + sequence)
    queries = tl.load(query_starts + sequence + 1) - query_start
    if queries == 0:
        return
    context = tl.load(seq_lens + sequence) - queries
    token_M, head_M, position_M, real_M = place_rows(
        kv_head, query_start, 0, queries - 1, context, GROUP, TILE_M
    )
    q_MD = load_rows(
        q, token_M * stride_q_token + head_M * stride_q_head, real_M, HEAD_DIM, PADDED_DIM, MASKED=True
    )
    peak_M, total_M = start_softmax(sinks, head_M, real_M)
    acc_MD = tl.zeros([TILE_M, PADDED_DIM], dtype=tl.float32)

    low = 0
    high = context + queries
    if window is not None:
        low = tl.maximum(context + 1 - window, 0)
    first_tile = low // TILE_N
    tiles_per_share = tl.cdiv(tl.cdiv(high, TILE_N) - first_tile, tl.num_programs(2))
    start = (first_tile + share * tiles_per_share) * TILE_N
    stop = tl.minimum(start + tiles_per_share * TILE_N, high)
    acc_MD, peak_M, total_M = attend(
        acc_MD, peak_M, total_M, q_MD, position_M, start, stop, low, high,
        k_cache + kv_head * stride_kv_head, v_cache + kv_head * stride_kv_head,
        k_scales, v_scales, tables + sequence * stride_table, stride_block, stride_slot,
        scale, window, softcap, alibi, head_M,
        HEAD_DIM, PADDED_DIM, BLOCK_SIZE, TILE_N, MASKED=True,
    )  # fmt: skip

    out_MD, lse_M = finish_softmax(acc_MD, peak_M, total_M)
    offset_M = token_M * stride_out_token + head_M * stride_out_head + share * stride_out_split
    store_rows(out, offset_M, real_M, out_MD, HEAD_DIM, PADDED_DIM)
    if lse is not None:
        tl.store(lse + token_M * stride_lse_token + head_M * stride_lse_head + share, lse_M, mask=real_M)
