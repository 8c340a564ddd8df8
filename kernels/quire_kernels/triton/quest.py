"""Page-selected attention of decoding rows (Tang et al., "Quest: Query-Aware Sparsity for Efficient
Long-Context LLM Inference", ICML 2024, section 3).

Of a page the cache keeps, beside its keys, their least and largest values in every dimension. From these
comes the most that a query can score with any key there. Between `page_scores` and `attend_pages` the caller
chooses the pages with the largest scores, by `torch.topk` for one. Grids depend on shapes alone, so that a
CUDA graph can repeat all of it.

Suffixes of shapes: P pages of a sequence, J of them chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import triton
from triton import next_power_of_2

from quire_kernels.triton import launch
from quire_kernels.triton.attention_launch import attention_shares, launch_attention
from quire_kernels.triton.checks import (
    check_cache,
    check_dtype,
    check_float,
    check_optional,
    check_rows,
    check_shape,
)
from quire_kernels.triton.launch import Architecture, Launch
from quire_kernels.triton.merge import merge_rows
from quire_kernels.triton.quest_checks import check_bounds, check_choice, check_decode_rows
from quire_kernels.triton.quest_kernel import attend_pages_kernel, page_scores_kernel, store_bounds_kernel
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor

_TOKENS = 16  # of a page at a time; the smallest pages have so many


def store_bounds(
    k_TKD: Tensor, least_NKD: Tensor, largest_NKD: Tensor, slots_T: Tensor, *, block_size: int
) -> None:
    """Widens the bounds of the pages that a step's keys are stored in; see `quire_kernels`."""
    import torch

    tokens, kv_heads, head_dim = k_TKD.shape
    check_float("k_TKD", k_TKD)
    check_rows("k_TKD", k_TKD)
    check_bounds(least_NKD, largest_NKD, k_TKD, kv_heads=kv_heads, head_dim=head_dim)
    check_shape("slots_T", slots_T, tokens)
    check_dtype("slots_T", slots_T, torch.int64)
    check_rows("slots_T", slots_T)
    if tokens == 0:
        return
    store_bounds_kernel[(tokens, kv_heads)](
        k_TKD,
        least_NKD,
        largest_NKD,
        slots_T,
        tokens,
        *k_TKD.stride()[:2],
        *least_NKD.stride()[:2],
        **launch_store_bounds(head_dim=head_dim, block_size=block_size).keywords(),
    )


def page_scores(
    q_SHD: Tensor,
    least_NKD: Tensor,
    largest_NKD: Tensor,
    tables_SM: Tensor,
    seq_lens_S: Tensor,
    scores_SKP: Tensor,
    *,
    block_size: int,
    scale: float,
    softcap: float | None = None,
    alibi_slopes_H: Tensor | None = None,
) -> None:
    """What each page may be worth to the heads that share its keys; see `quire_kernels`."""
    import torch

    kv_heads = least_NKD.shape[1]
    sequences, _, head_dim = q_SHD.shape
    group = check_decode_rows(q_SHD, tables_SM, seq_lens_S, kv_heads, softcap, alibi_slopes_H)
    check_bounds(least_NKD, largest_NKD, q_SHD, kv_heads=kv_heads, head_dim=head_dim)
    pages = scores_SKP.shape[-1]
    check_choice("scores_SKP", scores_SKP, torch.float32, sequences, kv_heads, columns=tables_SM.shape[-1])
    if sequences == 0 or pages == 0:
        return
    keywords = launch_page_scores(
        itemsize=q_SHD.element_size(), head_dim=head_dim, block_size=block_size, group=group
    ).keywords()
    page_scores_kernel[(triton.cdiv(pages, keywords["TILE_P"]), kv_heads, sequences)](
        q_SHD, least_NKD, largest_NKD, tables_SM, seq_lens_S, scores_SKP, pages,
        scale, softcap, alibi_slopes_H,
        *q_SHD.stride()[:2], *least_NKD.stride()[:2], tables_SM.stride(0), **keywords,
    )  # fmt: skip


def attend_pages(
    q_SHD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    tables_SM: Tensor,
    seq_lens_S: Tensor,
    pages_SKJ: Tensor,
    out_SHD: Tensor,
    *,
    scale: float,
    softcap: float | None = None,
    alibi_slopes_H: Tensor | None = None,
    sinks_H: Tensor | None = None,
) -> None:
    """Attention of every sequence's last token to the pages that are chosen for it; see `quire_kernels`."""
    import torch

    _, kv_heads, block_size, _ = k_cache.shape
    sequences, heads, head_dim = q_SHD.shape
    group = check_decode_rows(q_SHD, tables_SM, seq_lens_S, kv_heads, softcap, alibi_slopes_H)
    check_cache(k_cache, v_cache, kv_heads=kv_heads, head_dim=head_dim)
    check_shape("out_SHD", out_SHD, sequences, heads, head_dim)
    for name, tensor in (("k_cache", k_cache), ("v_cache", v_cache), ("out_SHD", out_SHD)):
        check_dtype(name, tensor, q_SHD.dtype)
        check_rows(name, tensor)
    check_optional("sinks_H", sinks_H, heads)
    check_choice("pages_SKJ", pages_SKJ, torch.int64, sequences, kv_heads, columns=tables_SM.shape[-1])
    chosen = pages_SKJ.shape[-1]
    if sequences == 0:
        return

    architecture = launch.architecture_of(q_SHD.device)
    keywords = launch_attend_pages(
        architecture,
        itemsize=q_SHD.element_size(),
        head_dim=head_dim,
        block_size=block_size,
        group=group,
    ).keywords()
    shares = attention_shares(
        architecture,
        sequences=sequences,
        kv_heads=kv_heads,
        max_query_len=1,
        max_seq_len=chosen * block_size,
        window=None,
    )
    step = (q_SHD, k_cache, v_cache, tables_SM, seq_lens_S, pages_SKJ)
    options = (chosen, scale, softcap, alibi_slopes_H)
    strides = (*q_SHD.stride()[:2], *k_cache.stride()[:3], tables_SM.stride(0))
    grid = (sequences, kv_heads, shares)
    if shares == 1:
        attend_pages_kernel[grid](
            *step, out_SHD, sinks_H, None, *options, *strides, *out_SHD.stride()[:2], 0, 0, 1, **keywords
        )
        return
    partial_SHCD = q_SHD.new_empty((sequences, heads, shares, head_dim), dtype=torch.float32)
    partial_lse_SHC = q_SHD.new_empty((sequences, heads, shares), dtype=torch.float32)
    attend_pages_kernel[grid](
        *step, partial_SHCD, None, partial_lse_SHC, *options,
        *strides, *partial_SHCD.stride()[:3], *partial_lse_SHC.stride()[:2], **keywords,
    )  # fmt: skip
    merge_rows(
        partial_SHCD.permute(2, 0, 1, 3),
        partial_lse_SHC.permute(2, 0, 1),
        out_SHD,
        sinks_H=sinks_H,
        lse_TH=None,
    )


def launch_store_bounds(*, head_dim: int, block_size: int) -> Launch:
    """A head of one page a program, TILE_N of its tokens at a time."""
    padded_dim = max(16, next_power_of_2(head_dim))
    return Launch(
        constants={
            "HEAD_DIM": head_dim,
            "PADDED_DIM": padded_dim,
            "BLOCK_SIZE": block_size,
            "TILE_N": _TOKENS,
        },
        num_warps=max(1, padded_dim // 32),
    )


def launch_page_scores(*, itemsize: int, head_dim: int, block_size: int, group: int) -> Launch:
    """The heads of a group by TILE_P pages. Scalar products, those of float32, keep their operands in
    registers: small tiles.
    """
    padded_dim = max(16, next_power_of_2(head_dim))
    rows = max(16, next_power_of_2(group))
    return Launch(
        constants={
            "GROUP": group,
            "HEAD_DIM": head_dim,
            "PADDED_DIM": padded_dim,
            "BLOCK_SIZE": block_size,
            "TILE_M": rows,
            "TILE_P": 16 if itemsize == 4 else 32 if padded_dim > 128 else 64,
        },
        num_warps=4 if rows == 16 and itemsize < 4 else 8,
    )


def launch_attend_pages(
    architecture: Architecture, *, itemsize: int, head_dim: int, block_size: int, group: int
) -> Launch:
    """As `paged_attention` decodes: the heads of a group by TILE_N tokens of the chosen pages."""
    return launch_attention(
        architecture,
        itemsize=itemsize,
        cache_itemsize=itemsize,
        head_dim=head_dim,
        block_size=block_size,
        group=group,
        max_query_len=1,
    )


def variants(architecture: Architecture) -> Iterator[Variant]:
    """Llama's heads, as shares; smaller ones; and with all options, as one program a sequence and head."""
    for dtype, head_dim, group, options in (
        ("bf16", 128, 4, ()),
        ("bf16", 64, 4, ()),
        ("fp16", 128, 1, ("softcap", "alibi", "sinks")),
    ):
        yield from _variants(architecture, dtype, head_dim, group, options)


def _variants(
    architecture: Architecture, dtype: str, head_dim: int, group: int, options: tuple[str, ...]
) -> Iterator[Variant]:
    """The three kernels of one model, in pages of 16 tokens."""
    shape = {"head_dim": head_dim, "block_size": 16}
    kind = {"softcap": "fp32", "alibi": "*fp32", "sinks": "*fp32"}
    given = {name: type_ if name in options else None for name, type_ in kind.items()}
    scored = {name: given[name] for name in ("softcap", "alibi")}
    bounds = dict.fromkeys(("least", "largest"), f"*{dtype}")
    step = dict.fromkeys(("tables", "seq_lens"), "*i32")
    unaligned = frozenset({"stride_table", "stride_lse_token", "stride_lse_head"})
    yield Variant(
        name=f"bounds-{dtype}-d{head_dim}",
        kernel=store_bounds_kernel,
        types={"k": f"*{dtype}", **bounds, "slots": "*i64"},
        launch=launch_store_bounds(**shape),
    )
    yield Variant(
        name="-".join(["page-scores", dtype, f"d{head_dim}", f"g{group}", *(n for n in scored if scored[n])]),
        kernel=page_scores_kernel,
        types={"q": f"*{dtype}", **bounds, **step, "scores": "*fp32", "scale": "fp32", **scored},
        launch=launch_page_scores(itemsize=2, group=group, **shape),
        unaligned=unaligned,
    )
    shared = "sinks" not in options
    yield Variant(
        name="-".join(["pages", dtype, f"d{head_dim}", f"g{group}", *options]),
        kernel=attend_pages_kernel,
        types={
            **dict.fromkeys(("q", "k_cache", "v_cache"), f"*{dtype}"),
            **step,
            "pages": "*i64",
            "out": "*fp32" if shared else f"*{dtype}",
            "lse": "*fp32" if shared else None,
            "scale": "fp32",
            **given,
        },
        launch=launch_attend_pages(architecture, itemsize=2, group=group, **shape),
        unaligned=unaligned,
    )
