"""Page-selected attention: the bounds of pages, their scores and attention to those of the largest."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from check_kernels import Case, Draw, wide
from torch import Tensor


def pages(draw: Draw, dry: bool) -> Iterator[Case]:
    """Decoding rows of one model after another: three kernels each to compile, so few of them."""
    lengths = [33, 1, 150] if dry else [33, 1, 900, *range(100, 1000, 61)]
    models = ((128, 4, 16, False), (128, 1, 64, True))
    for dim, group, block, rest in ((32, 2, 16, True),) if dry else models:
        shape = {"head_dim": dim, "group": group, "block_size": block, "rest": rest}
        yield f"chosen pages: {shape}", lambda s=shape: _choose(draw, lengths, **s)
    if not dry:
        shape = {"head_dim": 128, "group": 4, "block_size": 16, "rest": False}
        long = [9000, 4097]
        yield "chosen pages: long, shares merged", lambda: _choose(draw, long, chosen=128, **shape)


def _choose(
    draw: Draw,
    lengths: list[int],
    *,
    head_dim: int,
    group: int,
    block_size: int,
    rest: bool,
    chosen: int = 4,
) -> tuple[Tensor, Tensor]:
    """Bounds, scores of pages, and attention to the pages that float64 would choose. With the `rest` there is
    ALiBi, a cap on scores, and sinks.
    """
    from quire_kernels import reference
    from quire_kernels import triton as kernels

    kv_heads = 2
    heads = kv_heads * group
    counts = [-(-length // block_size) for length in lengths]
    order = draw.permutation(sum(counts) + 2).to(torch.int32)
    tables_SM = torch.zeros(len(lengths), max(chosen, *counts), dtype=torch.int32)
    slots, used = list[Tensor](), 0
    for s, length in enumerate(lengths):
        table = order[used : used + counts[s]]
        used += counts[s]
        tables_SM[s, : counts[s]] = table
        at = torch.arange(length)
        slots.append(table[at // block_size].long() * block_size + at % block_size)
    slots_T, seq_lens_S = torch.cat(slots), torch.tensor(lengths, dtype=torch.int32)
    k_TKD, v_TKD = (draw.normal(len(slots_T), kv_heads, head_dim) for _ in range(2))
    q_SHD = draw.normal(len(lengths), heads, head_dim)
    of_heads = {"alibi_slopes_H": 0.5 ** torch.linspace(1, 8, heads), "sinks_H": torch.randn(heads)}
    if not rest:
        of_heads = dict.fromkeys(of_heads)
    choice_SKJ = None
    found = []
    # The reference first: what it chooses is what both attend to.
    for ops, device, (q, k, v) in (
        (reference, "cpu", wide(q_SHD, k_TKD, v_TKD)),
        (kernels, draw.device, (q_SHD, k_TKD, v_TKD)),
    ):
        shape = (len(order), block_size + 1, kv_heads, head_dim)
        rows = [torch.full(shape, torch.nan, dtype=q.dtype, device=device) for _ in range(2)]
        caches, bounds = [each[:, :-1].transpose(1, 2) for each in rows], [each[:, -1] for each in rows]
        placed, step = slots_T.to(device), (tables_SM.to(device), seq_lens_S.to(device))
        given = {name: None if each is None else each.to(device) for name, each in of_heads.items()}
        sinks_H = given.pop("sinks_H")
        options = {"scale": head_dim**-0.5, "softcap": 3.0 if rest else None, **given}
        ops.store_kv(k, v, *caches, placed)
        ops.store_bounds(k, *bounds, placed, block_size=block_size)
        wider = torch.float64 if ops is reference else torch.float32
        scores_SKP = torch.empty(len(lengths), kv_heads, tables_SM.shape[1], dtype=wider, device=device)
        ops.page_scores(q, *bounds, *step, scores_SKP, block_size=block_size, **options)
        if choice_SKJ is None:
            choice_SKJ = scores_SKP.topk(chosen, dim=-1).indices
        out = torch.full_like(q, torch.nan)
        ops.attend_pages(q, *caches, *step, choice_SKJ.to(device), out, sinks_H=sinks_H, **options)
        # Infinities as ones: what is compared has to be finite.
        scores_SKP = scores_SKP.nan_to_num(nan=torch.nan, posinf=1.0, neginf=-1.0)
        touched = (placed // block_size).unique()
        parts = (out, scores_SKP, *(bound[touched] for bound in bounds))
        found.append([part.cpu().double().flatten() for part in parts])
    expected, got = found
    sizes = [part.norm() for part in expected]  # each counts as much as the others
    got, expected = (
        torch.cat([part / size for part, size in zip(parts, sizes, strict=True)]) for parts in (got, expected)
    )
    return got, expected
