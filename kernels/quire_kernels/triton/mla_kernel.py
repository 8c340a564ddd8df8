"""The kernel of multi-head latent attention: all heads of a sequence against one stream of latents.

The rows of a query tile are heads, token after token; TILE_M need divide nothing. For HEADS = 5, TILE_M = 4:

    tile    0  0  0  0  1  1  1  1  2  2  2  2
    token   0  0  0  0  0  1  1  1  1  1  -  -      token = row // HEADS, head = row % HEADS
    head    0  1  2  3  4  0  1  2  3  4  -  -

Suffixes of shapes: M rows of the query tile, N keys of a key tile, V padded latent, P padded rotary part.
"""

import triton
import triton.language as tl

from quire_kernels.triton.attention_tile import LOG2E, finish_softmax, load_rows, soften, store_rows


@triton.jit
def mla_decode_kernel(
    q,
    cache,
    tables,
    query_starts,
    seq_lens,
    out,
    lse,
    scale,
    stride_q_token,
    stride_q_head,
    stride_block,
    stride_slot,
    stride_table,
    stride_out_share,
    stride_out_token,
    stride_out_head,
    stride_lse_share,
    stride_lse_token,
    stride_lse_head,
    HEADS: tl.constexpr,
    LATENT_DIM: tl.constexpr,
    PADDED_LATENT: tl.constexpr,
    ROTARY_DIM: tl.constexpr,
    PADDED_ROTARY: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_N: tl.constexpr,
):
    """Grid (query tiles, sequences, shares). `out` is [shares, T, H, V]; `lse`, [shares, T, H], may be None.

    The tiles of a sequence come first, so that those that read the same latents do so at the same time.
    """
    first_row = tl.program_id(0) * TILE_M
    sequence = tl.program_id(1)
    share = tl.program_id(2).to(tl.int64)
    query_start = tl.load(query_starts + sequence)
    queries = tl.load(query_starts + sequence + 1) - query_start
    if first_row >= queries * HEADS:
        return
    context = tl.load(seq_lens + sequence) - queries
    row_M = first_row + tl.arange(0, TILE_M)
    query_M = row_M // HEADS
    real_M = query_M < queries
    token_M = (query_start + query_M).to(tl.int64)
    head_M = row_M % HEADS
    position_M = tl.where(real_M, context + query_M, -1)  # a row that is not there sees no key

    offset_M = token_M * stride_q_token + head_M * stride_q_head
    q_MV = load_rows(q, offset_M, real_M, LATENT_DIM, PADDED_LATENT, MASKED=True)
    q_MP = load_rows(q + LATENT_DIM, offset_M, real_M, ROTARY_DIM, PADDED_ROTARY, MASKED=True)
    peak_M = tl.full([TILE_M], float("-inf"), tl.float32)
    total_M = tl.zeros([TILE_M], dtype=tl.float32)
    acc_MV = tl.zeros([TILE_M, PADDED_LATENT], dtype=tl.float32)

    high = context + (tl.minimum(first_row + TILE_M, queries * HEADS) - 1) // HEADS + 1
    tiles_per_share = tl.cdiv(tl.cdiv(high, TILE_N), tl.num_programs(2))
    start = tl.program_id(2) * tiles_per_share * TILE_N
    stop = tl.minimum(start + tiles_per_share * TILE_N, high)
    table = tables + sequence * stride_table
    for first in range(start, stop, TILE_N):
        key_N = first + tl.arange(0, TILE_N)
        present_N = key_N < high  # the slots beyond may hold NaN, and 0 * NaN is NaN
        block_N = tl.load(table + key_N // BLOCK_SIZE, mask=present_N, other=0)
        offset_N = block_N.to(tl.int64) * stride_block + (key_N % BLOCK_SIZE) * stride_slot
        latent_NV = load_rows(cache, offset_N, present_N, LATENT_DIM, PADDED_LATENT, MASKED=True)
        rotary_NP = load_rows(cache + LATENT_DIM, offset_N, present_N, ROTARY_DIM, PADDED_ROTARY, MASKED=True)
        score_MN = tl.dot(q_MV, tl.trans(latent_NV), input_precision="ieee")
        score_MN = tl.dot(q_MP, tl.trans(rotary_NP), score_MN, input_precision="ieee") * (scale * LOG2E)
        score_MN = tl.where(key_N[None, :] <= position_M[:, None], score_MN, float("-inf"))
        weight_MN, decay_M, peak_M, total_M = soften(score_MN, peak_M, total_M)
        acc_MV = tl.dot(
            weight_MN.to(latent_NV.dtype), latent_NV, acc_MV * decay_M[:, None], input_precision="ieee"
        )

    out_MV, lse_M = finish_softmax(acc_MV, peak_M, total_M)
    offset_M = share * stride_out_share + token_M * stride_out_token + head_M * stride_out_head
    store_rows(out, offset_M, real_M, out_MV, LATENT_DIM, PADDED_LATENT)
    if lse is not None:
        offset_M = share * stride_lse_share + token_M * stride_lse_token + head_M * stride_lse_head
        tl.store(lse + offset_M, lse_M, mask=real_M)
