"""Problems to tune the merge of attention states and latent attention on, in the shapes of large models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from quire_kernels.triton.tuning import Call, TuningCase, grid, narrow_dtype

if TYPE_CHECKING:
    import torch


def merge_cases(device: torch.device, small: bool) -> Iterator[TuningCase]:
    """Shares of a long context, and the two parts of a context with a beginning that others have too."""
    for head_dim in (64, 128, 256, 512):
        for many in (True, False):
            yield TuningCase(
                family="merge",
                case=f"{'many' if many else 'few'}-d{head_dim}",
                candidates=grid(c=(2, 4, 8, 16), warps=(1, 2, 4, 8)),
                make=lambda d=head_dim, m=many: _merge_call(device, d, m, small),
            )


def _merge_call(device: torch.device, head_dim: int, many: bool, small: bool) -> Call:
    """Few tokens of 16 shares, or many tokens of two parts; 32 heads."""
    import torch

    from quire_kernels.triton.merge import merge_rows

    parts, tokens, heads = (16, 4, 32) if many else (2, 256, 32)
    if small:
        tokens, heads = 2, 2
    dtype = narrow_dtype(small)
    parts_CTHD = torch.randn(parts, tokens, heads, head_dim, device=device)
    lses_CTH = torch.randn(parts, tokens, heads, device=device)
    out_THD = torch.empty(tokens, heads, head_dim, dtype=dtype, device=device)
    if not many:
        parts_CTHD = parts_CTHD.to(dtype)
    return lambda: merge_rows(parts_CTHD, lses_CTH, out_THD, sinks_H=None, lse_TH=None, many=many)


def mla_cases(device: torch.device, small: bool) -> Iterator[TuningCase]:
    """16 heads, which fill the small tile, and 128."""
    for latent_dim in (256, 512):
        for mode, candidates in (
            ("small", grid(n=(16, 32, 64), warps=(4, 8), stages=(2, 3, 4, 5))),
            ("large", grid(m=(32, 64), n=(16, 32, 64), warps=(4, 8), stages=(2, 3, 4, 5))),
        ):
            yield TuningCase(
                family="mla",
                case=f"{mode}-x2-d{latent_dim}",
                candidates=candidates,
                make=lambda d=latent_dim, m=mode: _mla_call(device, d, 16 if m == "small" else 128, small),
            )


def _mla_call(device: torch.device, latent_dim: int, heads: int, small: bool) -> Call:
    """32 sequences that decode at a context of 4,096."""
    import torch

    from quire_kernels.triton.attention import plan_attention
    from quire_kernels.triton.mla import mla_decode

    block, width = 16, latent_dim + 64
    sequences, context = (1, 20) if small else (32, 4096)
    blocks = -(-context // block)
    cache_NBW = torch.randn(sequences * blocks, block, width, device=device).to(narrow_dtype(small))
    tables_SM = torch.randperm(sequences * blocks, device=device).to(torch.int32).view(sequences, blocks)
    host = (
        torch.arange(sequences + 1, dtype=torch.int32),
        torch.full((sequences,), context, dtype=torch.int32),
    )
    q_THW = torch.randn(sequences, heads, width, device=device).to(cache_NBW.dtype)
    plan = plan_attention(*host, heads=heads, kv_heads=1, block_size=block)
    out_THV = q_THW.new_empty((sequences, heads, latent_dim))
    step = (q_THW, cache_NBW, tables_SM, *(each.to(device) for each in host), out_THV)
    return lambda: mla_decode(*step, scale=width**-0.5, plan=plan)
