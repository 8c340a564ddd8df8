"""Unified attention: prefill, chunk, decode and draft rows in one launch, one program a query tile.

A program finds its sequence by bisection over `query_starts`, so the grid depends on nothing but the shapes
of the tensors. Sequence s has its tiles from query_starts[s] // TILE_TOKENS + s on: never fewer than it
needs, at most one more. With 4 tokens a tile and sequences of 5, 1 and 6 queries:

    tile        0    1    2    3    4    5         query_starts  0  5  6  12
    sequence    0    0    1    2    2    -         first tiles   0  2  3
    queries    0-3   4    0   0-3  4-5   -         tiles in the grid: 12 // 4 + 3
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


@triton.jit
def _find_tile(tile, query_starts, sequences, TILE_TOKENS: tl.constexpr):
    """(sequence, its first query that belongs to this tile) of a tile of the grid."""
    low = 0
    high = sequences
    while high - low > 1:
        middle = (low + high) // 2
        if tl.load(query_starts + middle) // TILE_TOKENS + middle <= tile:
            low = middle
        else:
            high = middle
    return low, (tile - tl.load(query_starts + low) // TILE_TOKENS - low) * TILE_TOKENS


@triton.jit(do_not_specialize=["sequences", "window"])
def attention_unified_kernel(
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
    sequences,
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
    stride_lse,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_N: tl.constexpr,
):
    """Grid (query tiles, key-value heads). `sinks`, `lse`, the scales, `window`, `softcap` and `alibi` (the
    slopes) may be None.
    """
    # The last tiles of a sequence see the most keys. They start first, so that none runs alone at the end.
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    sequence, first_query = _find_tile(tile, query_starts, sequences, TILE_M // GROUP)
    query_start = tl.load(query_starts + sequence)
    queries = tl.load(query_starts + sequence + 1) - query_start
    if first_query >= queries:
        return
    last_query = tl.minimum(first_query + TILE_M // GROUP, queries) - 1
    context = tl.load(seq_lens + sequence) - queries
    kv_head = tl.program_id(1)
    token_M, head_M, position_M, real_M = place_rows(
        kv_head, query_start, first_query, last_query, context, GROUP, TILE_M
    )
    q_MD = load_rows(
        q, token_M * stride_q_token + head_M * stride_q_head, real_M, HEAD_DIM, PADDED_DIM, MASKED=True
    )
    peak_M, total_M = start_softmax(sinks, head_M, real_M)
    acc_MD = tl.zeros([TILE_M, PADDED_DIM], dtype=tl.float32)

    # low:high are the keys that any row sees; between full_start and full_stop every row sees every key:
    #
    #     low   full_start              full_stop   high
    #      |--masked--|------no masks------|--masked--|
    low = 0
    high = context + last_query + 1
    full_start = 0
    full_stop = (context + first_query + 1) // TILE_N * TILE_N
    keys = k_cache + kv_head * stride_kv_head
    values = v_cache + kv_head * stride_kv_head
    table = tables + sequence * stride_table
    if window is not None:
        low = tl.maximum(context + first_query + 1 - window, 0)
        full_start = tl.cdiv(tl.maximum(high - window, 0), TILE_N) * TILE_N
        full_stop = tl.maximum(full_start, full_stop)
        acc_MD, peak_M, total_M = attend(
            acc_MD, peak_M, total_M, q_MD, position_M, low // TILE_N * TILE_N, full_start, low, high,
            keys, values, k_scales, v_scales, table, stride_block, stride_slot,
            scale, window, softcap, alibi, head_M,
            HEAD_DIM, PADDED_DIM, BLOCK_SIZE, TILE_N, MASKED=True,
        )  # fmt: skip
    acc_MD, peak_M, total_M = attend(
        acc_MD, peak_M, total_M, q_MD, position_M, full_start, full_stop, low, high,
        keys, values, k_scales, v_scales, table, stride_block, stride_slot,
        scale, window, softcap, alibi, head_M,
        HEAD_DIM, PADDED_DIM, BLOCK_SIZE, TILE_N, MASKED=False,
    )  # fmt: skip
    acc_MD, peak_M, total_M = attend(
        acc_MD, peak_M, total_M, q_MD, position_M, full_stop, high, low, high,
        keys, values, k_scales, v_scales, table, stride_block, stride_slot,
        scale, window, softcap, alibi, head_M,
        HEAD_DIM, PADDED_DIM, BLOCK_SIZE, TILE_N, MASKED=True,
    )  # fmt: skip

    out_MD, lse_M = finish_softmax(acc_MD, peak_M, total_M)
    store_rows(
        out, token_M * stride_out_token + head_M * stride_out_head, real_M, out_MD, HEAD_DIM, PADDED_DIM
    )
    if lse is not None:
        tl.store(lse + token_M * stride_lse + head_M, lse_M, mask=real_M)
