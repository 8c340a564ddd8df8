"""Merged attention states and latent attention, against float64."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from check_kernels import Case, Draw, wide
from torch import Tensor


def states(draw: Draw, dry: bool) -> Iterator[Case]:
    """Few parts and many, some of no keys; latents, attended to by few heads and by many."""
    for parts, dim in ((3, 24),) if dry else ((2, 64), (2, 128), (5, 80), (40, 256), (3, 512)):
        yield f"merge of {parts} parts of {dim}", lambda c=parts, d=dim: _merge(draw, c, d)
    decode, mixed = [(1, 33), (1, 1), (1, 70)], [(2, 90), (1, 17), (40, 50)]
    # A width with a number of heads is a kernel to compile, which takes seconds: few, and each tile once.
    for latent, heads, what, sequences in (
        (512, 16, "decode", decode),
        (512, 128, "drafts and a chunk", mixed),
        (256, 40, "decode", decode),
        (512, 16, "64 sequences", [(1, 100 + 7 * s) for s in range(64)]),
        (512, 128, "long, shares merged", [(1, 9000), (1, 4097)]),
    ):
        if dry:
            latent, heads, sequences = (
                latent // 16,
                heads // 8,
                [(n, min(each, 50)) for n, each in sequences[:3]],
            )
        yield (
            f"latent attention of {latent}, {heads} heads: {what}",
            lambda v=latent, h=heads, s=sequences: _attend(draw, s, heads=h, latent=v),
        )


def _merge(draw: Draw, parts: int, dim: int) -> tuple[Tensor, Tensor]:
    """With a part of no keys, whose output is NaN, and a row that has no keys at all."""
    from quire_kernels import reference
    from quire_kernels import triton as kernels

    parts_CTHD, lses_CTH = draw.normal(parts, 7, 3, dim), draw.normal(parts, 7, 3).float() * 3
    empty_CTH = torch.zeros(parts, 7, 3, dtype=torch.bool, device=draw.device)
    empty_CTH[1, 2:] = True
    empty_CTH[:, 0, 0] = True
    parts_CTHD.masked_fill_(empty_CTH[..., None], torch.nan)
    lses_CTH.masked_fill_(empty_CTH, -torch.inf)
    out_THD, lse_TH = draw.empty(7, 3, dim), torch.full((7, 3), torch.nan, device=draw.device)
    kernels.merge_states(parts_CTHD, lses_CTH, out_THD, lse_TH=lse_TH)
    expected, expected_TH = torch.empty(7, 3, dim).double(), torch.empty(7, 3).double()
    reference.merge_states(*wide(parts_CTHD, lses_CTH), expected, lse_TH=expected_TH)
    return _flat(out_THD.cpu().double(), lse_TH.cpu().double()), _flat(expected, expected_TH)


def _flat(out_THD: Tensor, lse_TH: Tensor) -> Tensor:
    """Both, with 0 for the log-sum-exp of no keys: what is compared has to be finite."""
    return torch.cat([out_THD.flatten(), lse_TH.masked_fill(lse_TH.isneginf(), 0.0).flatten()])


def _attend(
    draw: Draw,
    sequences: list[tuple[int, int]],
    *,
    heads: int,
    latent: int,
    rotary: int = 64,
    block_size: int = 16,
) -> tuple[Tensor, Tensor]:
    """Latents of (queries, context) sequences in pages in random order; slots without a token are NaN."""
    from quire_kernels import reference
    from quire_kernels import triton as kernels

    width = latent + rotary
    blocks = [-(-length // block_size) for _, length in sequences]
    order = draw.permutation(sum(blocks) + 2).to(torch.int32)
    tables_SM = torch.zeros(len(sequences), max(blocks), dtype=torch.int32)
    cache_NBW = draw.empty(len(order), block_size, width)
    used = 0
    for s, (_, length) in enumerate(sequences):
        table = order[used : used + blocks[s]]
        used += blocks[s]
        tables_SM[s, : blocks[s]] = table
        at = torch.arange(length)
        cache_NBW[table[at // block_size].long(), at % block_size] = draw.normal(length, width)
    queries = torch.tensor([0, *(count for count, _ in sequences)])
    host = (queries.cumsum(0).to(torch.int32), torch.tensor([n for _, n in sequences], dtype=torch.int32))
    q_THW = draw.normal(int(host[0][-1]), heads, width)
    out_THV = draw.empty(len(q_THW), heads, latent)
    on_device = [tensor.to(draw.device) for tensor in (tables_SM, *host)]
    plan = kernels.plan_attention(*host, heads=heads, kv_heads=1, block_size=block_size)
    kernels.mla_decode(q_THW, cache_NBW, *on_device, out_THV, scale=width**-0.5, plan=plan)
    expected = torch.empty(len(q_THW), heads, latent).double()
    reference.mla_decode(*wide(q_THW, cache_NBW), tables_SM, *host, expected, scale=width**-0.5)
    return out_THV, expected
