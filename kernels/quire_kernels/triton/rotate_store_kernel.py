"""The kernel that norms and rotates the heads of a token and stores its keys and values.

Suffixes of shapes: H heads of a tile, D padded head dimension, I pairs of dimensions that turn together, J
dimensions that do not turn.
"""

import triton
import triton.language as tl

from quire_kernels.triton.codes import encode, largest, scale_of, to_codes


@triton.jit
def rotate_store_kv_kernel(
    q,
    k,
    v,
    k_cache,
    v_cache,
    k_scales,
    v_scales,
    slots,
    positions,
    cos_sin,
    q_norm,
    k_norm,
    heads,
    kv_heads,
    block_size,
    eps,
    stride_q_token,
    stride_q_head,
    stride_k_token,
    stride_k_head,
    stride_v_token,
    stride_v_head,
    stride_block,
    stride_kv_head,
    stride_slot,
    stride_cos_sin,
    UNIT_OFFSET: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    PAIRS: tl.constexpr,
    PADDED_PAIRS: tl.constexpr,
    PADDED_REST: tl.constexpr,
    TILE_H: tl.constexpr,
):
    """Grid (tokens, tiles of query heads, then of key heads, then of value heads). Norms may be None, and the
    scales are unless the cache holds 8 bits.
    """
    token = tl.program_id(0).to(tl.int64)
    tile = tl.program_id(1)
    query_tiles = tl.cdiv(heads, TILE_H)
    key_tiles = tl.cdiv(kv_heads, TILE_H)
    if tile < query_tiles:
        row = q + token * stride_q_token
        _turn(
            row, stride_q_head, row, stride_q_head, None, 0, tile * TILE_H, heads, q_norm, eps,
            positions + token, cos_sin, stride_cos_sin, UNIT_OFFSET, INTERLEAVED, HEAD_DIM, PAIRS,
            PADDED_PAIRS, PADDED_REST, TILE_H,
        )  # fmt: skip
        return
    slot = tl.load(slots + token)
    if slot < 0:
        return
    cell = slot // block_size * stride_block + slot % block_size * stride_slot
    first_scale = slot // block_size * kv_heads * block_size + slot % block_size
    if tile < query_tiles + key_tiles:
        _turn(
            k + token * stride_k_token, stride_k_head, k_cache + cell, stride_kv_head,
            None if k_scales is None else k_scales + first_scale, block_size,
            (tile - query_tiles) * TILE_H, kv_heads, k_norm, eps, positions + token, cos_sin, stride_cos_sin,
            UNIT_OFFSET, INTERLEAVED, HEAD_DIM, PAIRS, PADDED_PAIRS, PADDED_REST, TILE_H,
        )  # fmt: skip
    else:
        head_H = (tile - query_tiles - key_tiles) * TILE_H + tl.arange(0, TILE_H)
        dim_D = tl.arange(0, PADDED_DIM)
        inside_HD = (head_H < kv_heads)[:, None] & (dim_D < HEAD_DIM)[None, :]
        address_HD = v + token * stride_v_token + head_H[:, None] * stride_v_head + dim_D[None, :]
        place_HD = v_cache + cell + head_H[:, None] * stride_kv_head + dim_D[None, :]
        v_HD = tl.load(address_HD, mask=inside_HD, other=0.0)
        if v_scales is not None:
            v_HD, scale_H = encode(v_HD, v_cache.dtype.element_ty)
            tl.store(v_scales + first_scale + head_H * block_size, scale_H, mask=head_H < kv_heads)
        tl.store(place_HD, v_HD, mask=inside_HD)


@triton.jit
def _turn(
    source,
    stride_source,
    target,
    stride_target,
    scales,
    stride_scale,
    first_head,
    heads,
    norm,
    eps,
    position,
    cos_sin,
    stride_cos_sin,
    UNIT_OFFSET: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAIRS: tl.constexpr,
    PADDED_PAIRS: tl.constexpr,
    PADDED_REST: tl.constexpr,
    TILE_H: tl.constexpr,
):
    """Heads of one token from `source` to `target`, rounded where the separate operations round; to 8 bits
    where there are `scales`.

    A head is held in three parts: the first and the second of each pair, and the dimensions that no rotation
    touches.
    """
    pair_I = tl.arange(0, PADDED_PAIRS)
    if INTERLEAVED:
        a_I = 2 * pair_I
        b_I = a_I + 1
    else:
        a_I = pair_I
        b_I = pair_I + PAIRS
    head_H = first_head + tl.arange(0, TILE_H)
    inside_HI = (head_H < heads)[:, None] & (pair_I < PAIRS)[None, :]
    row_H = source + head_H * stride_source
    a_HI = tl.load(row_H[:, None] + a_I[None, :], mask=inside_HI, other=0.0).to(tl.float32)
    b_HI = tl.load(row_H[:, None] + b_I[None, :], mask=inside_HI, other=0.0).to(tl.float32)
    if 2 * PAIRS < HEAD_DIM:
        rest_J = 2 * PAIRS + tl.arange(0, PADDED_REST)
        inside_HJ = (head_H < heads)[:, None] & (rest_J < HEAD_DIM)[None, :]
        rest_HJ = tl.load(row_H[:, None] + rest_J[None, :], mask=inside_HJ, other=0.0).to(tl.float32)
    if norm is not None:
        squares_H = tl.sum(a_HI * a_HI, 1) + tl.sum(b_HI * b_HI, 1)
        if 2 * PAIRS < HEAD_DIM:
            squares_H += tl.sum(rest_HJ * rest_HJ, 1)
        scale_H = tl.rsqrt(squares_H / HEAD_DIM + eps)
        a_HI = _scale(a_HI, scale_H, norm, a_I, pair_I < PAIRS, UNIT_OFFSET)
        b_HI = _scale(b_HI, scale_H, norm, b_I, pair_I < PAIRS, UNIT_OFFSET)
        if 2 * PAIRS < HEAD_DIM:
            rest_HJ = _scale(rest_HJ, scale_H, norm, rest_J, rest_J < HEAD_DIM, UNIT_OFFSET)

    angles = cos_sin + tl.load(position) * stride_cos_sin
    cos_I = tl.load(angles + pair_I, mask=pair_I < PAIRS)
    sin_I = tl.load(angles + PAIRS + pair_I, mask=pair_I < PAIRS)
    place_H = target + head_H * stride_target
    new_a_HI = (a_HI * cos_I - b_HI * sin_I).to(source.dtype.element_ty)
    new_b_HI = (b_HI * cos_I + a_HI * sin_I).to(source.dtype.element_ty)
    if 2 * PAIRS < HEAD_DIM:
        new_rest_HJ = rest_HJ.to(source.dtype.element_ty)
    if scales is not None:
        code: tl.constexpr = target.dtype.element_ty
        # Beyond the pairs there is neither a cosine nor a sine, but whatever the registers held.
        new_a_HI = tl.where(inside_HI, new_a_HI, 0.0)
        new_b_HI = tl.where(inside_HI, new_b_HI, 0.0)
        largest_H = tl.maximum(largest(new_a_HI), largest(new_b_HI))
        if 2 * PAIRS < HEAD_DIM:
            largest_H = tl.maximum(largest_H, largest(new_rest_HJ))
        code_scale_H = scale_of(largest_H, code)
        tl.store(scales + head_H * stride_scale, code_scale_H, mask=head_H < heads)
        new_a_HI = to_codes(new_a_HI, code_scale_H, code)
        new_b_HI = to_codes(new_b_HI, code_scale_H, code)
        if 2 * PAIRS < HEAD_DIM:
            new_rest_HJ = to_codes(new_rest_HJ, code_scale_H, code)
    tl.store(place_H[:, None] + a_I[None, :], new_a_HI, mask=inside_HI)
    tl.store(place_H[:, None] + b_I[None, :], new_b_HI, mask=inside_HI)
    if 2 * PAIRS < HEAD_DIM:
        tl.store(place_H[:, None] + rest_J[None, :], new_rest_HJ, mask=inside_HJ)


@triton.jit
def _scale(x_HI, scale_H, norm, dim_I, inside_I, UNIT_OFFSET: tl.constexpr):
    weight_I = tl.load(norm + dim_I, mask=inside_I, other=0.0).to(tl.float32)
    if UNIT_OFFSET:
        weight_I += 1.0
    return (x_HI * scale_H[:, None] * weight_I[None, :]).to(norm.dtype.element_ty).to(tl.float32)
