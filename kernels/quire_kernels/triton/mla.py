"""Multi-head latent attention over a paged cache of latents (DeepSeek-AI, "DeepSeek-V2", 2024, section 2.1).

Of a token the cache keeps one latent, from which all heads' keys and values would be projected, and one
rotated key that all heads share. With the projections absorbed into the queries and the output, every head
attends to the latents themselves: multi-query attention with 512 + 64 columns, of which the first 512 are the
values too, and are read once. For many new tokens at a time, as in a prompt, it is less arithmetic to project
keys and values.

Suffixes of shapes: W columns of the cache, V of them the latent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import triton
from triton import next_power_of_2

from quire_kernels.triton import launch
from quire_kernels.triton.attention import AttentionPlan, plan_attention
from quire_kernels.triton.attention_launch import KeyTile
from quire_kernels.triton.checks import check_latent_attention
from quire_kernels.triton.launch import Architecture, Launch
from quire_kernels.triton.merge import merge_rows
from quire_kernels.triton.mla_kernel import mla_decode_kernel
from quire_kernels.triton.tuned import remembers_tiles, tile_for
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor

MAX_LATENT_DIM = 512
MAX_ROTARY_DIM = 64
_SMALL_TILE_ROWS = 16
_MIN_SHARE_TOKENS = 512  # a share's output is as large as a few dozen latents, and written, and read

# By padded latent dimension, for up to 16 rows and for more. At eight warps the sums of 64 rows are 128
# registers a thread. So are the queries, except on Hopper, whose matrix units take them from shared memory;
# AMD has registers for both. Chosen from what the compiler reports, not from measurements.
_SMALL = {
    "cuda": {256: KeyTile(16, 64, 4, 5), 512: KeyTile(16, 32, 4, 5)},
    "hip": {256: KeyTile(16, 32, 4, 3), 512: KeyTile(16, 16, 4, 3)},
}
_LARGE = {
    "sm_80": {256: KeyTile(32, 64, 4, 5), 512: KeyTile(32, 32, 8, 5)},
    "sm_86": {256: KeyTile(32, 32, 4, 5), 512: KeyTile(32, 16, 8, 5)},
    "sm_90": {256: KeyTile(64, 64, 8, 5), 512: KeyTile(64, 16, 8, 5)},
    "gfx942": {256: KeyTile(64, 32, 4, 3), 512: KeyTile(64, 16, 4, 3)},
}
# NVIDIA's matrix units take no IEEE float32. Scalar products keep their operands in registers: small tiles.
# The shared memory of sm_86 holds one of keys beside that of queries.
_FLOAT32 = {
    "sm_80": KeyTile(16, 16, 8, 5),
    "sm_86": KeyTile(16, 16, 8, 2),
    "sm_90": KeyTile(16, 16, 8, 5),
    "gfx942": KeyTile(16, 16, 4, 2),
}


def mla_decode(
    q_THW: Tensor,
    cache_NBW: Tensor,
    tables_SM: Tensor,
    query_starts_S1: Tensor,
    seq_lens_S: Tensor,
    out_THV: Tensor,
    *,
    scale: float,
    lse_TH: Tensor | None = None,
    plan: AttentionPlan | None = None,
) -> None:
    """Causal attention of every sequence's last tokens over its cached latents; see `quire_kernels`.

    The plan is `plan_attention`'s for one key-value head. Without one the lengths are read back from the GPU,
    which waits for it.
    """
    check_latent_attention(
        q_THW,
        cache_NBW,
        tables_SM,
        query_starts_S1,
        seq_lens_S,
        out_THV,
        max_latent_dim=MAX_LATENT_DIM,
        max_rotary_dim=MAX_ROTARY_DIM,
        lse_TH=lse_TH,
    )
    tokens, heads, width = q_THW.shape
    latent_dim = out_THV.shape[-1]
    geometry = {"heads": heads, "kv_heads": 1, "block_size": cache_NBW.shape[1], "window": None}
    if plan is None:
        plan = plan_attention(query_starts_S1, seq_lens_S, **geometry)
    plan.check_made_for(**geometry, sequences=seq_lens_S.shape[0])
    if tokens == 0 or plan.max_query_len == 0:
        return

    architecture = launch.architecture_of(q_THW.device)
    rows = plan.max_query_len * heads
    keywords = launch_mla(
        architecture,
        itemsize=q_THW.element_size(),
        heads=heads,
        latent_dim=latent_dim,
        rotary_dim=width - latent_dim,
        block_size=cache_NBW.shape[1],
        small=rows <= _SMALL_TILE_ROWS,
    ).keywords()
    tiles = triton.cdiv(rows, keywords["TILE_M"])
    shares = mla_shares(architecture, sequences=plan.sequences, tiles=tiles, max_seq_len=plan.max_seq_len)
    step = (q_THW, cache_NBW, tables_SM, query_starts_S1, seq_lens_S)
    strides = (*q_THW.stride()[:2], *cache_NBW.stride()[:2], tables_SM.stride(0))
    if shares == 1:
        lse_strides = (0, 0) if lse_TH is None else lse_TH.stride()
        mla_decode_kernel[(tiles, plan.sequences, 1)](
            *step, out_THV, lse_TH, scale, *strides, 0, *out_THV.stride()[:2], 0, *lse_strides, **keywords
        )
        return
    import torch

    partial_CTHV = q_THW.new_empty((shares, tokens, heads, latent_dim), dtype=torch.float32)
    partial_lse_CTH = q_THW.new_empty((shares, tokens, heads), dtype=torch.float32)
    mla_decode_kernel[(tiles, plan.sequences, shares)](
        *step, partial_CTHV, partial_lse_CTH, scale,
        *strides, *partial_CTHV.stride()[:3], *partial_lse_CTH.stride(), **keywords,
    )  # fmt: skip
    merge_rows(
        partial_CTHV, partial_lse_CTH, out_THV, sinks_H=None, lse_TH=lse_TH, query_starts_S1=query_starts_S1
    )


@remembers_tiles
def launch_mla(
    architecture: Architecture,
    *,
    itemsize: int,
    heads: int,
    latent_dim: int,
    rotary_dim: int,
    block_size: int,
    small: bool,
) -> Launch:
    """TILE_M rows (tokens x heads) by TILE_N latents. `small` where one small tile holds every sequence's."""
    padded_dim = max(16, next_power_of_2(latent_dim))
    bucket = max(256, padded_dim)
    if itemsize == 4:
        default = _FLOAT32[architecture.name]
    else:
        default = (_SMALL[architecture.backend] if small else _LARGE[architecture.name])[bucket]
    case = f"{'small' if small else 'large'}-x{itemsize}-d{bucket}"
    tile = tile_for(architecture, "mla", case, default)
    return Launch(
        constants={
            "HEADS": heads,
            "LATENT_DIM": latent_dim,
            "PADDED_LATENT": padded_dim,
            "ROTARY_DIM": rotary_dim,
            "PADDED_ROTARY": max(16, next_power_of_2(rotary_dim)),
            "BLOCK_SIZE": block_size,
            "TILE_M": tile.m,
            "TILE_N": tile.n,
        },
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def mla_shares(architecture: Architecture, *, sequences: int, tiles: int, max_seq_len: int) -> int:
    """How many programs share the latents of a tile: one a processor, which it fills, none with too few."""
    to_fill = architecture.processors // (sequences * tiles)
    return max(1, min(to_fill, max_seq_len // _MIN_SHARE_TOKENS))


def variants(architecture: Architecture) -> Iterator[Variant]:
    """DeepSeek's heads on eight GPUs and on one, MiniCPM3's, as shares and, with fp16, directly."""
    for dtype, latent_dim, heads in (
        ("bf16", 512, 16),
        ("bf16", 512, 128),
        ("fp32", 512, 16),
        ("bf16", 256, 16),
        ("fp16", 256, 40),
    ):
        shares = dtype != "fp16"
        yield Variant(
            name="-".join(
                ["mla", dtype, f"d{latent_dim}", "r64", f"h{heads}", *(["shares"] if shares else [])]
            ),
            kernel=mla_decode_kernel,
            types={
                **dict.fromkeys(("q", "cache"), f"*{dtype}"),
                **dict.fromkeys(("tables", "query_starts", "seq_lens"), "*i32"),
                "out": "*fp32" if shares else f"*{dtype}",
                "lse": "*fp32" if shares else None,
                "scale": "fp32",
            },
            launch=launch_mla(
                architecture,
                itemsize=4 if dtype == "fp32" else 2,
                heads=heads,
                latent_dim=latent_dim,
                rotary_dim=64,
                block_size=16,
                small=heads <= _SMALL_TILE_ROWS,
            ),
            unaligned=frozenset({"stride_table", "stride_lse_share", "stride_lse_token", "stride_lse_head"}),
        )
