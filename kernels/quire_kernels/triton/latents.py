"""The paged cache of latents on a GPU: [N, B, W], the rows of a block one after another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import triton
import triton.language as tl
from triton import next_power_of_2

from quire_kernels.triton.checks import check_dtype, check_float, check_rows, check_shape
from quire_kernels.triton.launch import Architecture, Launch
from quire_kernels.triton.mla import MAX_LATENT_DIM, MAX_ROTARY_DIM
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def latent_cache_shape(
    num_blocks: int, block_size: int, latent_dim: int, rotary_dim: int, dtype: torch.dtype
) -> tuple[int, ...]:
    """Shape of one layer's cache of latents, as `mla_decode` reads it."""
    import torch

    for name, size, most in (
        ("latent_dim", latent_dim, MAX_LATENT_DIM),
        ("rotary_dim", rotary_dim, MAX_ROTARY_DIM),
    ):
        if not 0 < size <= most:
            raise ValueError(f"{name} is {size}; the Triton kernels take 1 to {most}")
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"dtype is {dtype}; the Triton kernels take float32, float16 and bfloat16")
    return num_blocks, block_size, latent_dim + rotary_dim


def store_latents(rows_TW: Tensor, cache_NBW: Tensor, slots_T: Tensor) -> None:
    """Writes the row of every token that has a slot; a negative slot is skipped."""
    import torch

    tokens, width = rows_TW.shape
    check_float("rows_TW", rows_TW)
    check_shape("cache_NBW", cache_NBW, *cache_NBW.shape[:2], width)
    check_shape("slots_T", slots_T, tokens)
    check_dtype("cache_NBW", cache_NBW, rows_TW.dtype)
    check_dtype("slots_T", slots_T, torch.int64)
    for name, tensor in (("rows_TW", rows_TW), ("cache_NBW", cache_NBW), ("slots_T", slots_T)):
        check_rows(name, tensor)
    if tokens == 0:
        return
    store_latents_kernel[(tokens,)](
        rows_TW,
        cache_NBW,
        slots_T,
        cache_NBW.shape[1],
        rows_TW.stride(0),
        *cache_NBW.stride()[:2],
        **launch_store_latents(width=width).keywords(),
    )


def launch_store_latents(*, width: int) -> Launch:
    """A row a program."""
    return Launch(constants={"WIDTH": width, "PADDED_WIDTH": next_power_of_2(width)}, num_warps=4)


@triton.jit
def store_latents_kernel(
    rows,
    cache,
    slots,
    block_size,
    stride_row,
    stride_block,
    stride_slot,
    WIDTH: tl.constexpr,
    PADDED_WIDTH: tl.constexpr,
):
    """Grid (tokens)."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token)
    if slot < 0:
        return
    column_W = tl.arange(0, PADDED_WIDTH)
    inside_W = column_W < WIDTH
    row_W = tl.load(rows + token * stride_row + column_W, mask=inside_W)
    cell = slot // block_size * stride_block + slot % block_size * stride_slot
    tl.store(cache + cell + column_W, row_W, mask=inside_W)


def variants(architecture: Architecture) -> Iterator[Variant]:
    """The same on every architecture: DeepSeek's rows, and MiniCPM3's."""
    del architecture
    for dtype, width in (("bf16", 576), ("fp32", 288)):
        yield Variant(
            name=f"latents-{dtype}-w{width}",
            kernel=store_latents_kernel,
            types={"rows": f"*{dtype}", "cache": f"*{dtype}", "slots": "*i64", "block_size": "i32"},
            launch=launch_store_latents(width=width),
        )
